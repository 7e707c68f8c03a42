"""`runs terminate` and `runs delete`, as typed: a workflow in one process, its store real."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from command_line import Start, commands_in, said
from headrace.actors.run_control import Asking
from headrace.actors.run_views import RunFilter, list_runs
from headrace.actors.store import Store
from headrace.sources.channel import ChannelSender
from headrace.workflows.commit import Commit
from headrace.workflows.control import ControlEvent, decode
from headrace.workflows.keyspace import CONTROL, partition_of
from headrace.workflows.store import DestinationEnded, StoreFull
from waiting import until_async

FLOW = """
from datetime import timedelta
import msgspec
from headrace import ChannelSource, Context, Event, Linear, Node, Retry, Workflow

class Order(msgspec.Struct):
    customer: str
    what: str

class Handle(Node[Order, list[str], None]):
    def process(self, event: Event[Order], ctx: Context[list[str]]) -> None:
        if event.data.what == "stuck":
            raise OSError("away")
        if event.data.what == "wrong":
            raise ValueError("wrong")
        ctx.state.append(event.data.what)
        ctx.set_timer("remind", after=timedelta(days=1))

    def on_timer(self, timer, ctx: Context[list[str]]) -> None:
        pass

workflow = Workflow("orders", partitions=2)
orders = workflow.source(ChannelSource(Order, capacity=100, key="customer", name="orders"))
orders.to(workflow.node(Handle(), name="handle", retry=Retry(1000, on=(OSError,), backoff=Linear(timedelta(hours=1)))))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a folder with `flow.py`."""
    with commands_in(tmp_path, FLOW) as start:
        yield start


def shown(start: Start, run: str) -> Any:
    return json.loads(said(start, "runs", "show", run, "-o", "json"))


async def send(url: str, *orders: tuple[str, str]) -> None:
    sender = ChannelSender[dict[str, str]](url, "orders", "orders", partitions=2, capacity=100, key="customer")
    for customer, what in orders:
        await sender.send({"customer": customer, "what": what})
    await sender.disconnect()


async def stands_still(url: str, count: int) -> None:
    async with Store(url, "orders") as store:

        async def all_do() -> bool:
            return sum([len(await store.parked_fields(partition)) for partition in range(2)]) == count

        await until_async(all_do, f"{count} events stand still")


def dump(url: str) -> str:
    """All that the server has, as one text."""
    client = redis.Redis.from_url(url)
    found: list[Any] = []
    for key in client.scan_iter(count=1000):
        found.append((key, client.dump(key)))
        match client.type(key):
            case b"hash":
                found.append(client.hgetall(key))
            case b"stream":
                found.append(client.xrange(key))
            case b"zset":
                found.append(client.zrange(key, 0, -1))
            case b"string":
                found.append(client.get(key))
    return re.sub(r"\\x[0-9a-f]{2}", "?", repr(found))  # or the byte 0xad, and an a behind it, would read as a name


@pytest.mark.slow
async def test_runs_end_and_are_forgotten_by_command(start: Start, redis_url: str) -> None:
    run = ["dev", "flow.py", "--inline", "--no-live", "--redis", redis_url]
    first = start(*run)
    first.says("running, after")
    await send(redis_url, ("ada", "tea"), ("ada", "stuck"), ("bob", "tea"), ("cyd", "stuck"))
    await stands_still(redis_url, 2)

    assert "nobody to ask" in said(start, "runs", "terminate", "orders/ada", code=2)
    assert "Ended 1 run of orders." in said(start, "runs", "terminate", "orders/ada", "--reason", "given up", "-y")
    view = shown(start, "orders/ada")
    assert (view["status"], view["result"], view["void"], view["ended_by"]) == ("terminated", "given up", 1, None)
    assert view["began"] <= view["ended"]
    assert view["nodes"]["handle"] == ["tea"]
    assert "no such runs" in said(start, "runs", "terminate", "orders/ada", "-y")
    assert "no run 'dan'" in said(start, "runs", "terminate", "orders/dan", "-y", code=3)
    await stands_still(redis_url, 1)

    await send(redis_url, ("ada", "wrong"), ("bob", "wrong"), ("ada", "coffee"), ("ada", "stuck"), ("ada", "more"))
    await stands_still(redis_url, 3)
    assert "ada" in dump(redis_url)
    assert "Deleted 1 key of orders, and 1 dead letter." in said(start, "runs", "delete", "orders/ada", "-y")
    assert "ada" not in dump(redis_url)
    assert "bob" in dump(redis_url)
    said(start, "runs", "delete", "orders/ada", "-y")

    assert start("stop", "orders").ends() == 0
    assert "Say which" in said(start, "runs", "terminate", "orders", "-y", "--redis", redis_url, code=2)
    waiting = said(start, "runs", "terminate", "orders", "--key-prefix", "b", "-y", "--redis", redis_url, code=1)
    assert "does not run" in waiting
    second = start(*run)
    second.says("running, after")
    assert "Nothing is in flight" in said(start, "pause", "orders")
    assert "Ended 1 run of orders." in said(start, "runs", "terminate", "orders", "--all", "-y")
    assert {shown(start, f"orders/{key}")["status"] for key in ("bob", "cyd")} == {"terminated"}
    await stands_still(redis_url, 0)
    assert start("stop", "orders").ends() == 0


async def test_what_is_asked_lies_there_once_until_it_is_done(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.actors.run_control.secrets.token_hex", lambda _: "the same")
    async with Store(redis_url, "orders") as store:
        owner = (await store.acquire(0, term=1, placement=1, worker="w")).owner
        events = [ControlEvent("terminate", "ada", 1), ControlEvent("delete", "bob")]
        asking = Asking(store)

        await asking.ask({0: events})
        await asking.ask({0: events})

        entries = await store.client.xrange(store.keys(0).control)
        assert [decode(fields[b"blob"]) for _, fields in entries] == events
        assert not await asking.done(0)
        last = entries[-1][0].decode()
        await store.commit(0, owner, Commit(1, positions={CONTROL: last}, trims={CONTROL: (last, 2)}))
        assert await asking.done(0)
        assert await store.client.xlen(store.keys(0).control) == 0


async def test_no_more_is_taken_than_there_is_room_for_nor_by_a_workflow_that_has_ended(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Store(redis_url, "orders") as store:
        owner = (await store.acquire(0, term=1, placement=1, worker="w")).owner
        monkeypatch.setattr("headrace.actors.run_control.MOST", 1)
        await Asking(store).ask({0: [ControlEvent("terminate", "ada")]})
        with pytest.raises(StoreFull):
            await Asking(store).ask({0: [ControlEvent("terminate", "bob")]})

        await store.commit(0, owner, Commit(1, counters={"ended": 1}))
        with pytest.raises(DestinationEnded):
            await Asking(store).ask({0: [ControlEvent("terminate", "ada")]})


async def test_a_key_with_the_characters_of_a_pattern_is_found_by_its_beginning(redis_url: str) -> None:
    async with Store(redis_url, "orders") as store:
        for key in ("a*b", "a?b", "axb", "[a]", "a\\b"):
            partition = partition_of(key, 2)
            head = await store.acquire(partition, term=1, placement=1, worker="w")
            await store.commit(
                partition, head.owner, Commit(head.sequence + 1, runs={key: ["status", "running", "number", "1"]})
            )
        for key in ("a*b", "a?b", "axb", "[a]", "a\\b"):
            page = await list_runs(store, "orders", RunFilter(key_prefix=key))
            assert [row.key for row in page.runs] == [key]


async def test_a_page_ends_after_so_many_keys_whatever_it_has_found(redis_url: str) -> None:
    async with Store(redis_url, "orders") as store:
        await store.client.mset({f"other:{number}": "" for number in range(20_000)})
        owner = (await store.acquire(0, term=1, placement=1, worker="w")).owner
        runs = {f"k{number}": ["status", "running", "number", "1", "began", str(number)] for number in range(10)}
        await store.commit(0, owner, Commit(1, runs=runs))

        found, pages, cursor = [], 0, ""
        while True:
            page = await list_runs(store, "orders", RunFilter(began_before=5), cursor=cursor, most=2000)
            found += [row.key for row in page.runs]
            pages += 1
            if page.cursor is None:
                break
            cursor = page.cursor

        assert sorted(found) == [f"k{number}" for number in range(5)]
        assert pages > 5
