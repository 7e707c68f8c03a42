"""Channels on a real server: bounded, fair, ordered, closable, and nothing sent twice or lost."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.actors.store import Store
from headrace.sources.channel import ChannelSender, ChannelSource, ChannelUnbound
from headrace.sources.streams import StreamReader
from headrace.workflows.commit import Answer, Commit
from headrace.workflows.errors import SourceClosed
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records
from headrace.workflows.store import WorkflowDescriptor
from waiting import until_async

LINES = ChannelSource(str, capacity=2, name="lines")


def plan_of(source: ChannelSource[str]) -> SourcePlan:
    return SourcePlan(index=0, name=source.name, source=source, type=0, key=None, targets=(0,))


@dataclass
class Worker:
    """Takes what comes in through a channel and commits it, one event a commit."""

    store: Store
    reader: StreamReader
    owner: str = ""
    sequence: int = 0

    async def own(self, partition: int = 0) -> None:
        head = await self.store.acquire(partition, term=1, placement=1, worker="worker/0")
        self.owner, self.sequence = head.owner, head.sequence
        await self.reader.assign(partition, head.positions)

    async def take(self, count: int, *, ended: bool = False) -> list[bytes]:
        """Process `count` events; the last commit ends the workflow if so asked."""
        taken: list[bytes] = []
        while len(taken) < count:
            pulled: list[Records] = await until_async(lambda: self.reader.pull(0, 1), "an event comes")
            taken += [value for value in pulled[0].values if value is not None]
            self.sequence += 1
            answer = await self.store.commit(0, self.owner, Commit(
                sequence=self.sequence,
                positions={pulled[0].origin: pulled[0].after},
                trims={pulled[0].origin: (pulled[0].after, 1)},
                counters={"ended": 1} if ended and len(taken) == count else {},
            ))  # fmt: skip
            assert answer is Answer.APPLIED
        return taken


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "w", channels={"lines": 2}) as store:
        yield store


@pytest.fixture
async def worker(redis_url: str, store: Store) -> AsyncIterator[Worker]:
    reader = StreamReader(redis_url, "w", [plan_of(LINES)], on_ready=lambda _: None, on_problem=lambda *_: None)
    await reader.open()
    worker = Worker(store, reader)
    await worker.own()
    yield worker
    await reader.close()


@pytest.fixture
async def sender_of(redis_url: str) -> AsyncIterator[Callable[[], ChannelSender[str]]]:
    made: list[ChannelSender[str]] = []

    def make() -> ChannelSender[str]:
        made.append(ChannelSender(redis_url, "w", "lines", partitions=1, capacity=2))
        return made[-1]

    yield make
    for sender in made:
        await sender.disconnect()


Senders = Callable[[], ChannelSender[str]]


async def waits(store: Store, waiting: int = 1) -> None:
    """Until so many clients stand in line at the server."""

    async def blocked() -> bool:
        clients = await store.client.client_list()
        return sum(client["cmd"] == "blpop" for client in clients if client["db"] == _database(store)) == waiting

    await until_async(blocked, f"{waiting} senders wait")


def _database(store: Store) -> str:
    return str(store.client.connection_pool.connection_kwargs["db"])


async def test_A22_a_full_channel_makes_the_sender_wait(worker: Worker, store: Store, sender_of: Senders) -> None:
    sender = sender_of()
    await sender.send("a")
    await sender.send("b")
    third = asyncio.create_task(sender.send("c"))
    await waits(store)

    assert await worker.take(1) == [b'"a"']
    await third
    assert await worker.take(2) == [b'"b"', b'"c"']


async def test_A24_every_waiting_sender_is_told_that_the_workflow_has_ended(
    worker: Worker, store: Store, sender_of: Senders
) -> None:
    senders = [sender_of() for _ in range(3)]
    await senders[0].send("a")
    await senders[0].send("b")
    waiting = [asyncio.create_task(sender.send("c")) for sender in senders for _ in range(2)]
    await waits(store, 3)

    await worker.take(1, ended=True)

    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [type(end) for end in ends] == [SourceClosed] * 6
    assert await senders[1].remainder() == [b'"b"']
    with pytest.raises(SourceClosed):
        await sender_of().send("d")


async def test_A25_each_senders_order_is_kept_and_each_event_comes_once(redis_url: str, sender_of: Senders) -> None:
    async with Store(redis_url, "w", channels={"lines": 50}) as store:
        reader = StreamReader(redis_url, "w", [plan_of(LINES)], on_ready=lambda _: None, on_problem=lambda *_: None)
        await reader.open()
        head = await store.acquire(0, term=1, placement=1, worker="worker/0")
        await reader.assign(0, {})

        async def feed(name: int) -> None:
            sender = sender_of()
            for number in range(1000):
                await sender.send(f"{name}:{number}")

        feeding = asyncio.gather(*map(feed, range(3)))
        seen: list[str] = []
        sequence = 0
        while len(seen) < 3000:
            for records in await until_async(lambda: reader.pull(0, 1000), "events come"):
                seen += [value.decode().strip('"') for value in records.values if value]
                sequence += 1
                await store.commit(0, head.owner, Commit(
                    sequence=sequence,
                    positions={records.origin: records.after},
                    trims={records.origin: (records.after, len(records))},
                ))  # fmt: skip
        await feeding
        await reader.close()

    for name in range(3):
        assert [text for text in seen if text.startswith(f"{name}:")] == [f"{name}:{n}" for n in range(1000)]


async def test_a_repeated_append_is_not_appended_again(store: Store, worker: Worker, sender_of: Senders) -> None:
    sender = sender_of()
    lane = sender._lane(0)
    await sender.send("a")

    assert await lane._append("1", "", "0", b'"a"') == b"APPENDED"

    assert await sender.remainder() == [b'"a"']


async def test_tokens_of_dead_senders_come_back(store: Store, worker: Worker, sender_of: Senders) -> None:
    credits_ = store.keys(0).credits("lines")
    await store.client.lpop(credits_, 2)

    await sender_of().send("a")

    assert await worker.take(1) == [b'"a"']


async def test_a_token_too_many_lets_nobody_in(store: Store, worker: Worker, sender_of: Senders) -> None:
    sender = sender_of()
    await sender.send("a")
    await sender.send("b")
    await store.client.rpush(store.keys(0).credits("lines"), "x")

    third = asyncio.create_task(sender.send("c"))
    await waits(store)
    assert len(await sender.remainder()) == 2

    await worker.take(1)
    await third


async def test_who_waits_longest_goes_first(store: Store, worker: Worker, sender_of: Senders) -> None:
    first, second = sender_of(), sender_of()
    await first.send("a")
    await first.send("b")
    waiting = []
    for place, (sender, text) in enumerate([(second, "c"), (first, "d")], start=1):
        waiting.append(asyncio.create_task(sender.send(text)))
        await waits(store, place)

    assert await worker.take(4) == [b'"a"', b'"b"', b'"c"', b'"d"']
    await asyncio.gather(*waiting)


async def test_a_new_owner_goes_on_where_the_last_one_committed(
    store: Store, worker: Worker, sender_of: Senders
) -> None:
    sender = sender_of()
    await sender.send("a")
    await sender.send("b")
    await worker.take(1)
    await until_async(lambda: worker.reader.pull(0, 10), "the second event is read, but never committed")

    await worker.own()

    assert await worker.take(1) == [b'"b"']


async def test_a_closed_channel_is_read_to_its_end(redis_url: str, store: Store, sender_of: Senders) -> None:
    closed: list[tuple[int, int]] = []
    reader = StreamReader(
        redis_url,
        "w",
        [plan_of(LINES)],
        on_ready=lambda _: None,
        on_problem=lambda *_: None,
        on_closed=lambda partition, source: closed.append((partition, source)),
    )
    await reader.open()
    worker = Worker(store, reader)
    await worker.own()
    sender = sender_of()
    await sender.send("a")
    await sender.send("b")
    await sender.close()

    assert await worker.take(1) == [b'"a"']
    assert closed == []
    assert await worker.take(1) == [b'"b"']
    await until_async(lambda: closed == [(0, 0)], "the reader tells of the end")
    await reader.close()


async def test_a_handle_may_be_sent_to_another_process(redis_url: str, store: Store) -> None:
    sender = ChannelSender[dict[str, str]](redis_url, "w", "lines", partitions=8, capacity=2, key="sensor")

    copy = pickle.loads(pickle.dumps(sender))
    await copy.send({"sensor": "s1"})
    await copy.disconnect()

    home = store.keys(partition_of("s1", 8)).stream("channel:lines")
    entries: Any = await store.client.xrange(home)
    assert [fields[b"key"] for _, fields in entries] == [b"s1"]


async def test_a_source_finds_its_workflow_by_the_environment(
    redis_url: str, store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ChannelSource(str, capacity=2, name="lines")
    with pytest.raises(ChannelUnbound, match=r"workflow\.source"):
        await channel.send("a")
    channel.bind("w")
    with pytest.raises(ChannelUnbound, match="HEADRACE_REDIS_URL"):
        await channel.send("a")
    monkeypatch.setenv("HEADRACE_REDIS_URL", redis_url)
    with pytest.raises(ChannelUnbound, match="Start it first"):
        await channel.send("a")

    await store.publish_workflow(WorkflowDescriptor(name="w", partitions=1, keyed=False))
    await channel.send("a")

    assert await channel.remainder() == ["a"]
    await (await channel.sender()).disconnect()
