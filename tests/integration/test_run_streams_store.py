"""Streams of runs on a real server: what its scripts do is what the store in memory does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headrace.actors.store import Store
from headrace.actors.store_streams import StreamStore, StreamWriter
from headrace.workflows.commit import Commit
from headrace.workflows.run_streams import RunStreams, Streamed, values_of
from headrace.workflows.streaming import KEPT, StreamLost, StreamPlace

RUN = ["status", "running", "number", "1"]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "talk") as store:
        yield store


@pytest.fixture
async def writer(redis_url: str) -> AsyncIterator[StreamWriter]:
    writer = StreamWriter(redis_url, "talk", 7)
    yield writer
    await writer.close()


class Life:
    """One owner of partition 0, over a store."""

    def __init__(self, store: Store, writer: StreamWriter) -> None:
        self._store, self._writer = store, writer
        self.reader = StreamStore(store)

    async def acquire(self) -> None:
        head = await self._store.acquire(0, term=1, placement=1, worker="worker/0")
        self.owner, self._sequence = head.owner, head.sequence

    async def commit(self, **parts: Any) -> None:
        self._sequence += 1
        await self._store.commit(0, self.owner, Commit(self._sequence, **parts))

    async def write(self, place: StreamPlace, number: int, value: bytes, token: str = "t") -> None:
        await self._writer.append(0, self.owner, place, token, number, value)

    async def entries(self, name: str = "s", after: str = "0") -> list[Streamed]:
        return await self.reader.read("talk", 0, "a", name, after=after)

    async def values(self, name: str = "s") -> list[bytes]:
        return values_of(await self.entries(name))


@pytest.fixture
async def life(store: Store, writer: StreamWriter) -> Life:
    life = Life(store, writer)
    await life.acquire()
    return life


def place(event: str, *, node: str = "n", stream: str = "s", number: int = 1) -> StreamPlace:
    return StreamPlace("a", number, stream, node, event)


@pytest.mark.parametrize("seed", range(12))
async def test_whoever_follows_has_what_the_store_in_memory_has(life: Life, seed: int) -> None:
    draw, memory = random.Random(seed), RunStreams()
    counts: dict[tuple[str, str], int] = {}
    tokens: dict[str, str] = {}
    gone: set[str] = set()
    seen: list[Streamed] = []
    for step in range(80):
        event = f"e{draw.randrange(4)}-{step // 20}"
        roll = draw.random()
        if event in gone:
            continue
        if roll < 0.7:
            if draw.random() < 0.15:
                tokens[event] = f"t{step}"
            token = tokens.setdefault(event, "t")
            counts[event, token] = count = counts.get((event, token), 0) + 1
            for _ in range(draw.choice([1, 2])):
                await life.write(place(event), count, b"%d" % step, token)
                memory.append(place(event), token, count, b"%d" % step)
        elif roll < 0.8:
            gone.add(event)
            await life.commit(sealed=[place(event)])
            memory.seal(place(event))
        elif roll < 0.9:
            tokens[event] = f"t{step}"
            await life.commit(void=[place(event)])
            memory.cut(place(event))
        elif roll < 0.92:
            tokens = dict.fromkeys(tokens, f"t{step}")
            await life.acquire()
            memory.cut_all()
        if draw.random() < 0.3:
            seen += await life.entries(after=seen[-1].id if seen else "0")
        assert sorted(await life.values()) == sorted(values_of(memory.read("a", "s", "0", KEPT)))
    await life.commit(runs={"a": RUN}, sealed=[], ended={"a": 60_000}, ended_runs={"a": 1})
    memory.end("a", 1, "running", None)
    seen += await life.entries(after=seen[-1].id if seen else "0")

    assert seen[-1].kind == "end"
    assert sorted(values_of(seen)) == sorted(values_of(memory.read("a", "s", "0", KEPT)))
    assert values_of(seen) == await life.values()


async def test_S12_a_successor_takes_back_what_was_written_before_it(life: Life) -> None:
    await life.write(place("e1"), 1, b"1")
    await life.commit(sealed=[place("e1")])
    await life.write(place("e2"), 1, b"2")
    before = life.owner

    await life.acquire()

    assert await life.values() == [b"1"]
    assert [entry.kind for entry in await life.entries()] == ["value", "reset"]
    life.owner = before
    with pytest.raises(StreamLost, match="another owner"):
        await life.write(place("e2"), 2, b"3")


async def test_a_process_that_was_replaced_writes_no_more(redis_url: str, life: Life) -> None:
    later = StreamWriter(redis_url, "talk", 8)
    await life.write(place("e1"), 1, b"1", "before")
    await later.append(0, life.owner, place("e1"), "after", 1, b"2")

    with pytest.raises(StreamLost, match="another process"):
        await life.write(place("e1"), 2, b"3", "before")
    await life.commit(sealed=[place("e1")])
    with pytest.raises(StreamLost, match="another process"):
        await life.write(place("e1"), 2, b"3", "before")
    await life.write(place("e1", node="other"), 1, b"4")

    assert await life.values() == [b"2", b"4"]
    await later.close()


async def test_the_next_run_of_a_key_begins_anew_and_the_one_before_writes_no_more(life: Life, store: Store) -> None:
    await life.write(place("e1"), 1, b"1")
    await life.write(place("e1", stream="other"), 1, b"1")
    await life.commit(runs={"a": RUN}, ended={"a": 60_000}, ended_runs={"a": 1}, sealed=[place("e1")])
    assert 0 < await store.client.pttl(store.keys(0).run_stream("a", "s")) <= 60_000
    with pytest.raises(StreamLost, match="ended"):
        await life.write(place("e2"), 1, b"2")

    await life.write(place("e3", number=2), 1, b"3")

    assert await life.values() == [b"3"]
    assert await life.reader.names("talk", 0, "a") == ["s"]
    assert await store.client.pttl(store.keys(0).run_stream("a", "s")) == -1
    with pytest.raises(StreamLost, match="another run"):
        await life.write(place("e2"), 1, b"2")
    await life.commit(fresh=["a"])
    assert (await life.values(), await life.reader.names("talk", 0, "a")) == ([], [])


async def test_followers_are_told(life: Life, store: Store) -> None:
    async with store.client.pubsub() as subscription:
        await subscription.subscribe(store.keys(0).streamed)
        await subscription.get_message(timeout=5)
        await life.write(place("e1"), 1, b"1")
        await life.commit(void=[place("e1")])

        told = [(await subscription.get_message(timeout=5) or {}).get("data") for _ in range(2)]

    assert [msgspec.json.decode(message or b"") for message in told] == [["a", "s"]] * 2


async def test_a_reader_takes_as_many_as_it_asks_for_and_goes_on_behind_them(life: Life) -> None:
    for number in range(1, 20):
        await life.write(place("e1"), number, b"%d" % number)
    entries = await life.reader.read("talk", 0, "a", "s", limit=5)

    assert [entry.value for entry in entries] == [b"1", b"2", b"3", b"4", b"5"]
    assert len(await life.reader.read("talk", 0, "a", "s", after=entries[-1].id)) == 14
