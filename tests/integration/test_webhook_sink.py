"""`WebhookSink` on a real receiver: signed, in order for each key, and again with the same id until it is taken."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from command_line import commands_in
from headrace import WebhookSink
from headrace.sources.custom_outlet import CustomOutlet, CustomSinkFailed
from headrace.sources.outlet import Portion
from headrace.workflows.commit import Output
from headrace.workflows.plan import SinkPlan
from hooks import OTHER_SECRET, SECRET, Answer, Hooks
from waiting import until_async


class Alert(msgspec.Struct, frozen=True):
    """What is sent."""

    text: str


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the receivers, where workers look."""
    monkeypatch.setenv("HEADRACE_WEBHOOK_SECRET", SECRET)


def outlet_to(url: str, **options: Any) -> CustomOutlet:
    sink = WebhookSink(Alert, url=url, name="alerts", **options)
    assert list(sink.check()) == []
    return CustomOutlet(SinkPlan(0, sink.name, sink, 0))


def portions(*rows: tuple[str, str]) -> dict[int, Portion]:
    """Outputs of (key, text); the text is the id, too."""
    outputs = [Output(0, f"in/0/{text}", key, 0, json.dumps({"text": text}).encode()) for key, text in rows]
    return {3: Portion(outputs, len(outputs))}


def texts(hooks: Hooks) -> list[str]:
    return [json.loads(told.body)["data"]["text"] for told in hooks.told]


async def test_a_message_is_a_signed_call() -> None:
    with Hooks() as hooks:
        outlet = outlet_to(hooks.url, headers={"X-Shop": "main"})
        assert await outlet.send(portions(("s1", "hot"))) == []
        await outlet.close()

    (told,) = hooks.told
    assert told.verified() == {
        "type": "alerts", "timestamp": "1970-01-01T00:00:00.000Z", "key": "s1", "data": {"text": "hot"},
    }  # fmt: skip
    assert (told.id, told.headers["content-type"], told.headers["x-shop"]) == ("in/0/hot", "application/json", "main")


async def test_while_a_secret_is_changed_calls_are_signed_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", f"{SECRET} {OTHER_SECRET}")
    with Hooks() as hooks:
        outlet = outlet_to(hooks.url, secret_variable="SHOP")
        await outlet.send(portions(("s1", "hot")))
        await outlet.close()

    assert hooks.told[0].verified(SECRET) == hooks.told[0].verified(OTHER_SECRET)


async def test_without_a_secret_nothing_is_sent_unless_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_WEBHOOK_SECRET")
    with Hooks() as hooks:
        with pytest.raises(CustomSinkFailed, match="Set HEADRACE_WEBHOOK_SECRET=whsec_"):
            await outlet_to(hooks.url).send(portions(("s1", "hot")))
        unsigned = outlet_to(hooks.url, secret_variable=None)
        await unsigned.send(portions(("s1", "cold")))
        await unsigned.close()

    assert texts(hooks) == ["cold"]
    assert "webhook-signature" not in hooks.told[0].headers
    assert hooks.told[0].id == "in/0/cold"


async def test_keys_are_in_order_and_side_by_side() -> None:
    rows = [(f"s{number % 5}", f"{number % 5}.{number}") for number in range(40)]
    with Hooks() as hooks:
        hooks.gate.clear()
        outlet = outlet_to(hooks.url, concurrency=4)
        sending = asyncio.create_task(outlet.send(portions(*rows)))

        async def four_are_under_way() -> bool:
            return hooks.most_at_once == 4

        await until_async(four_are_under_way, "four calls are under way")
        hooks.gate.set()
        await sending
        await outlet.close()

    assert hooks.most_at_once == 4
    for key in "01234":
        assert [text for text in texts(hooks) if text[0] == key] == [text for _, text in rows if text[0] == key]


async def test_what_is_not_taken_now_comes_again_with_its_id_and_what_was_taken_does_not() -> None:
    with Hooks([204, 500, 503, 204]) as hooks:
        outlet = outlet_to(hooks.url, concurrency=1)
        rows = portions(("s1", "a"), ("s1", "b"), ("s1", "c"))
        with pytest.raises(CustomSinkFailed, match=f"{re.escape(hooks.url)} answered 500"):
            await outlet.send(rows)
        with pytest.raises(CustomSinkFailed, match="answered 503"):
            await outlet.send(rows)
        assert await outlet.send(rows) == []
        await outlet.close()

    assert texts(hooks) == ["a", "b", "b", "b", "c"]
    assert len({told.id for told in hooks.told}) == 3


async def test_what_will_never_be_taken_is_refused_and_the_rest_of_its_key_goes_on() -> None:
    with Hooks([422, 204]) as hooks:
        outlet = outlet_to(hooks.url, concurrency=1)
        (refused,) = await outlet.send(portions(("s1", "a"), ("s1", "b")))
        await outlet.close()

    assert (refused.output.id, refused.error) == ("in/0/a", "answered 422")
    assert texts(hooks) == ["a", "b"]


async def test_after_so_many_answers_it_is_given_up_and_asking_for_patience_is_no_such_answer() -> None:
    patience = Answer(429, {"Retry-After": "0"}), Answer(503, {"Retry-After": "1"})
    with Hooks([500, *patience, 500, 204]) as hooks:
        outlet = outlet_to(hooks.url, attempts=2)
        for _ in range(3):
            with pytest.raises(CustomSinkFailed):
                await outlet.send(portions(("s1", "a"), ("s1", "b")))
        (refused,) = await outlet.send(portions(("s1", "a"), ("s1", "b")))
        await outlet.close()

    assert (refused.output.id, refused.error) == ("in/0/a", "answered 500, the last of 2 times")
    assert texts(hooks) == ["a"] * 4 + ["b"]


async def test_redirects_are_not_followed_but_named() -> None:
    with Hooks() as elsewhere, Hooks([Answer(308, {"Location": elsewhere.url})]) as hooks:
        outlet = outlet_to(hooks.url)
        with pytest.raises(CustomSinkFailed, match=r"answered 308, to http.*redirects are not followed"):
            await outlet.send(portions(("s1", "a")))
        await outlet.close()

    assert elsewhere.told == []


async def test_a_receiver_that_is_away_or_slow_is_named() -> None:
    with Hooks() as hooks:
        url = hooks.url
        hooks.gate.clear()
        slow = outlet_to(url, call_timeout=timedelta(seconds=0.2))
        with pytest.raises(CustomSinkFailed, match=f"{re.escape(url)}: .*[Tt]ime"):
            await slow.send(portions(("s1", "a")))
        await slow.close()
    away = outlet_to(url)
    with pytest.raises(CustomSinkFailed, match=re.escape(url)):
        await away.send(portions(("s1", "a")))
    await away.close()


async def test_an_id_that_no_header_can_have_is_written_so_that_one_can() -> None:
    with Hooks() as hooks:
        outlet = outlet_to(hooks.url)
        await outlet.send(portions(("s1", "zürich 1%")))
        await outlet.close()

    assert hooks.told[0].id == "in/0/z%C3%BCrich%201%25"
    assert hooks.told[0].verified()["data"] == {"text": "zürich 1%"}


FLOW = """
import os

import msgspec

from headrace import Complete, Context, Event, RequestSource, WebhookSink, Workflow


class Order(msgspec.Struct, frozen=True):
    number: int


def note(event: Event[Order], ctx: Context) -> Order:
    ctx.reply(event.data.number)
    return event.data


workflow = Workflow("orders", partitions=2)
orders = workflow.source(RequestSource(Order))
shop = workflow.sink(WebhookSink(Order, url=os.environ["SHOP_URL"], name="orders", secret_variable="SHOP_SECRET"))
noting = workflow.node(note)
orders.to(noting)
noting.to(shop)
"""


@pytest.mark.slow
async def test_what_waits_for_a_receiver_outlives_kill_9_and_is_named_meanwhile(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hooks([500]) as hooks, commands_in(tmp_path, FLOW) as start:
        monkeypatch.setenv("SHOP_URL", hooks.url)
        monkeypatch.setenv("SHOP_SECRET", SECRET)
        options = ("--inline", "--no-live", "--redis", redis_url, "--serve", "--port", "0")
        ran = start("dev", "flow.py", *options)
        ran.says("running, after")
        (address,) = re.findall(r"HTTP\s+(http://\S+)", ran.text)
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            for number in range(6):
                assert (await http.post("/runs", json={"number": number})).json() == number
        await asyncio.to_thread(ran.says, f"{hooks.url} answered 500")
        ran.process.kill()
        ran.process.wait()
        hooks.answers = [Answer(204)]
        before = len(hooks.told)
        start("dev", "flow.py", *options).says("running, after")

        def found() -> dict[int, set[str]]:
            ids: dict[int, set[str]] = {}
            for told in hooks.told:
                ids.setdefault(told.verified()["data"]["number"], set()).add(told.id)
            return ids

        async def all_there() -> bool:
            return len(hooks.told) >= before + 6

        await until_async(all_there, "all are there", within=60)

    assert found().keys() == set(range(6))
    assert all(len(ids) == 1 for ids in found().values())
