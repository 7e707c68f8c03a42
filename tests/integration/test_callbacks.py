"""Callbacks on a real store and a real receiver: told at least once, by one sender at a time, and never for nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from headrace.actors.store import Store
from headrace.actors.store_callbacks import CallbackStore
from headrace.actors.store_requests import RequestStore
from headrace.gateway.app import create_app
from headrace.gateway.callback_sender import CallbackSender
from headrace.gateway.callback_targets import TargetRules, networks_of
from headrace.gateway.settings import GatewaySettings
from headrace.sources.standard_webhooks import secrets_of
from headrace.workflows.commit import Answer as CommitAnswer
from headrace.workflows.commit import Callback, Commit
from headrace.workflows.durability import FAST
from headrace.workflows.keyspace import partition_of
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from hooks import OTHER_SECRET, SECRET, Answer, Hooks
from waiting import until_async

PARTITIONS = 2
BASE = "/v1/workflows/orders"
SETTINGS = GatewaySettings(
    callback_secrets=SECRET, callback_networks="127.0.0.0/8", callback_plain=True, callback_first_pause=0.2
)


class Owner:
    """Commits occurrences as the owner of a workflow's partitions does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._owners: dict[int, str] = {}
        self._ids = itertools.count(1)

    async def open(self) -> None:
        for partition in range(PARTITIONS):
            self._owners[partition] = (await self.store.acquire(partition, term=1, placement=1, worker="w")).owner
        self._next = dict.fromkeys(range(PARTITIONS), 0)

    async def commit(self, partition: int, callbacks: list[Callback]) -> CommitAnswer:
        self._next[partition] += 1
        return await self.again(partition, callbacks)

    async def again(self, partition: int, callbacks: list[Callback]) -> CommitAnswer:
        commit = Commit(self._next[partition], callbacks=callbacks)
        return await self.store.commit(partition, self._owners[partition], commit)

    async def occurs(self, run: str, url: str, count: int = 1) -> list[str]:
        rows = [
            Callback(f"msg_{next(self._ids)}", run, "run.completed", url, '{"type":"run.completed"}')
            for _ in range(count)
        ]
        assert await self.commit(partition_of(run, PARTITIONS), rows) is CommitAnswer.APPLIED
        return [row.id for row in rows]


@pytest.fixture
async def owner(redis_url: str) -> AsyncIterator[Owner]:
    async with Store(redis_url, "orders") as store:
        requests = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=PARTITIONS, sources=(requests,)))
        owner = Owner(store)
        await owner.open()
        yield owner


@asynccontextmanager
async def serving(url: str, settings: GatewaySettings = SETTINGS) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(url, settings=settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        yield http


@pytest.fixture
async def http(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(redis_url) as http:
        yield http


async def row_of(http: httpx.AsyncClient, run: str) -> Any:
    answer = await http.get(f"{BASE}/runs/{run}/callbacks")
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["callbacks"]
    return row


async def until_status(http: httpx.AsyncClient, run: str, status: str) -> Any:
    async def found() -> Any:
        row = await row_of(http, run)
        return row if row["status"] == status else None

    return await until_async(found, f"the callback of {run} is {status}")


async def test_B44_500_500_200_is_three_deliveries_of_one_event_with_rising_pauses(
    owner: Owner, http: httpx.AsyncClient
) -> None:
    with Hooks([500, 500, 200]) as hooks:
        (id_,) = await owner.occurs("a", hooks.url)
        row = await until_status(http, "a", "delivered")

        assert [told.id for told in hooks.told] == [id_] * 3
        assert [told.verified() for told in hooks.told] == [{"type": "run.completed"}] * 3
        assert [each["status"] for each in row["log"]] == [500, 500, 200]
        assert row["attempts"] == 3
        assert row["next_attempt"] is None


async def test_B44_400_is_one_delivery_and_a_dead_letter_which_may_be_told_again(
    owner: Owner, http: httpx.AsyncClient
) -> None:
    with Hooks([400, 204]) as hooks:
        (id_,) = await owner.occurs("a", hooks.url)
        row = await until_status(http, "a", "dead")
        dead = (await http.get(f"{BASE}/callbacks/dead")).json()["callbacks"]

        assert [each["id"] for each in dead] == [id_]
        assert [told.id for told in hooks.told] == [id_]

        again = await http.post(row["links"]["redeliver"])
        assert (again.status_code, again.json()["status"]) == (200, "pending")
        row = await until_status(http, "a", "delivered")

        assert [each["status"] for each in row["log"]] == [400, 204]
        assert [told.id for told in hooks.told] == [id_] * 2
        assert (await http.get(f"{BASE}/callbacks/dead")).json()["callbacks"] == []


@pytest.mark.parametrize("status", [405, 410, 413, 415, 422])
async def test_what_is_refused_for_good_is_not_tried_again(owner: Owner, http: httpx.AsyncClient, status: int) -> None:
    with Hooks([status]) as hooks:
        await owner.occurs("a", hooks.url)
        row = await until_status(http, "a", "dead")

        assert (row["attempts"], len(hooks.told)) == (1, 1)


async def test_a_receiver_may_ask_for_time(owner: Owner, http: httpx.AsyncClient) -> None:
    with Hooks([Answer(503, {"Retry-After": "3600"})]) as hooks:
        await owner.occurs("a", hooks.url)

        async def tried() -> Any:
            row = await row_of(http, "a")
            return row if row["attempts"] else None

        row = await until_async(tried, "it was tried")
        at, following = (msgspec.convert(row[name], type=Any) for name in ("occurred", "next_attempt"))
        assert row["status"] == "pending"
        assert following[:10] >= at[:10]
        client = owner.store.client
        due = await client.zscore(f"hr:{{orders/{partition_of('a', PARTITIONS)}}}:callbacks", row["id"])
        assert due - await owner.store.time() > 3_500_000


async def test_while_a_secret_is_changed_either_of_both_will_do(owner: Owner, redis_url: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, callback_secrets=f"{OTHER_SECRET} {SECRET}")
    with Hooks() as hooks:
        async with serving(redis_url, settings) as http:
            await owner.occurs("a", hooks.url)
            await until_status(http, "a", "delivered")

        (told,) = hooks.told
        assert told.verified(SECRET) == told.verified(OTHER_SECRET) == {"type": "run.completed"}


async def test_a_redirect_is_not_followed(owner: Owner, http: httpx.AsyncClient) -> None:
    with Hooks() as inside, Hooks([Answer(307, {"Location": inside.url}), Answer(410)]) as hooks:
        await owner.occurs("a", hooks.url)
        row = await until_status(http, "a", "dead")

        assert [each["status"] for each in row["log"]] == [307, 410]
        assert inside.told == []


async def test_several_processes_share_the_work(owner: Owner, redis_url: str) -> None:
    with Hooks() as hooks:
        async with serving(redis_url) as http, serving(redis_url), serving(redis_url):
            ids = await owner.occurs("a", hooks.url, 40) + await owner.occurs("b", hooks.url, 40)

            async def done() -> bool:
                rows = [
                    row
                    for run in "ab"
                    for row in (await http.get(f"{BASE}/runs/{run}/callbacks?limit=100")).json()["callbacks"]
                ]
                return len(rows) == 80 and all(row["status"] == "delivered" for row in rows)

            await until_async(done, "all are told")

        assert sorted(told.id for told in hooks.told) == sorted(ids)


async def test_what_a_sender_had_in_hand_that_ended_is_told_by_another(owner: Owner, redis_url: str) -> None:
    with Hooks() as hooks:
        (id_,) = await owner.occurs("a", hooks.url)
        async with RequestStore(redis_url) as store:
            callbacks = CallbackStore(store)
            partition = partition_of("a", PARTITIONS)
            (held,) = await callbacks.claim("orders", partition, 10, lease=1.0, durability=FAST)
            assert await callbacks.claim("orders", partition, 10, lease=1.0, durability=FAST) == []

            async with serving(redis_url) as http:
                await until_status(http, "a", "delivered")

            assert [told.id for told in hooks.told] == [id_]
            assert not await callbacks.settle(held, "dead")  # too late: another one has had it


async def test_a_commit_that_is_asked_again_tells_once(owner: Owner, http: httpx.AsyncClient) -> None:
    with Hooks() as hooks:
        rows = [Callback("msg_once", "a", "run.completed", hooks.url, "{}")]
        partition = partition_of("a", PARTITIONS)
        await owner.commit(partition, rows)
        await until_status(http, "a", "delivered")

        assert await owner.again(partition, rows) is CommitAnswer.ALREADY
        await owner.occurs("b", hooks.url)
        await until_status(http, "b", "delivered")

        assert [told.id for told in hooks.told].count("msg_once") == 1


async def test_calls_to_one_receiver_are_limited_and_others_are_not_held_up(owner: Owner, redis_url: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, callback_per_target=2)
    with Hooks() as slow, Hooks() as quick:
        slow.gate.clear()
        async with serving(redis_url, settings) as http:
            await owner.occurs("a", slow.url, 100)
            await until_async(lambda: len(slow.told) == 2, "as many calls are under way as may be")
            await owner.occurs("b", quick.url)
            await until_status(http, "b", "delivered")

            assert slow.most_at_once == 2
            slow.gate.set()


class Rebinding:
    """Says one thing first, and then another."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_a_name_that_means_something_else_by_the_time_it_is_called_is_not_called(
    owner: Owner, redis_url: str
) -> None:
    rules = TargetRules(plain=True, resolver=Rebinding(["93.184.215.14"], ["127.0.0.1"]))
    with Hooks() as hooks:
        url = hooks.url.replace("127.0.0.1", "rebind.example")
        await rules.check(url)  # as it came
        await owner.occurs("a", url)
        async with RequestStore(redis_url) as store, serving(redis_url, GatewaySettings()) as http:
            sender = CallbackSender(
                store, rules, secrets_of(SECRET), within=5, first_pause=1, give_up=100, per_target=1
            )
            await sender.open()
            row = await until_status(http, "a", "dead")
            await sender.close()

        assert "127.0.0.1, which is not public" in row["log"][0]["error"]
        assert hooks.told == []


async def test_the_connection_goes_to_the_address_that_was_looked_at(owner: Owner, redis_url: str) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    rules = TargetRules(networks_of("127.0.0.0/8"), plain=True, resolver=resolver)
    with Hooks() as hooks:
        await owner.occurs("a", hooks.url.replace("127.0.0.1", "shop.invalid"))  # no resolver but ours knows it
        async with RequestStore(redis_url) as store, serving(redis_url, GatewaySettings()) as http:
            sender = CallbackSender(
                store, rules, secrets_of(SECRET), within=5, first_pause=1, give_up=100, per_target=1
            )
            await sender.open()
            await until_status(http, "a", "delivered")
            await sender.close()

        assert asked == ["shop.invalid"]  # once: what was looked at is what was called
        assert hooks.told[0].headers["host"].startswith("shop.invalid:")


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest",
     "https://2130706433/", "https://localhost/", "ftp://shop.example/", "https://user@shop.example/", "no address"],
)  # fmt: skip
async def test_an_address_that_may_not_be_called_is_refused_as_it_comes(owner: Owner, redis_url: str, url: str) -> None:
    settings = GatewaySettings(callback_secrets=SECRET)
    async with serving(redis_url, settings) as http:
        answer = await http.post(f"{BASE}/runs", json={"n": 1}, headers={"Headrace-Callback": url})

        assert (answer.status_code, answer.json()["code"]) == (422, "callback_refused")
        assert await owner.store.client.xlen("hr:{orders/0}:inbox") == 0
        assert await owner.store.client.xlen("hr:{orders/1}:inbox") == 0


async def test_callbacks_are_not_promised_without_secrets_or_where_too_many_wait(owner: Owner, redis_url: str) -> None:
    asking: dict[str, Any] = {
        "json": {"n": 1},
        "headers": {"Headrace-Callback": "http://127.0.0.1:9/", "Prefer": "wait=0"},
    }
    async with serving(redis_url, GatewaySettings()) as http:
        unsigned = await http.post(f"{BASE}/runs/a/events", **asking)
        await owner.occurs("a", "http://127.0.0.1:9/", 2)
    settings = msgspec.structs.replace(SETTINGS, callbacks_waiting=2)
    async with serving(redis_url, settings) as http:
        full = await http.post(f"{BASE}/runs/a/events", **asking)
        other = next(run for run in "bcdefgh" if partition_of(run, PARTITIONS) != partition_of("a", PARTITIONS))
        taken = await http.post(f"{BASE}/runs/{other}/events", **asking)

    assert (unsigned.status_code, unsigned.json()["code"]) == (422, "no_callbacks")
    assert (full.status_code, full.json()["code"], "retry-after" in full.headers) == (503, "callbacks_full", True)
    assert taken.status_code == 202


async def test_nobody_tells_again_what_is_not_of_the_run(owner: Owner, http: httpx.AsyncClient) -> None:
    with Hooks() as hooks:
        (id_,) = await owner.occurs("a", hooks.url)
        await until_status(http, "a", "delivered")

        answers = [await http.post(f"{BASE}/runs/{run}/callbacks/{id_}/redeliver") for run in ("b", "unknown")]

        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "unknown_callback")] * 2
        assert len(hooks.told) == 1
