"""The parts of `make bench-gateway`: each measures one thing and gives its figures."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import psutil
import redis.asyncio

from benchmarks.gateway_flow import PARTITIONS, PAUSE, STREAM, TOPIC, Ask, Talk
from benchmarks.gateway_systems import ACCEPTED, KEYS, OK, System, body_of, milliseconds, say, share_of
from benchmarks.http_calls import Connection
from benchmarks.topics import append
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics
from headrace.workflows.keyspace import PartitionKeys

SEQUENTIAL = 500
"""Calls of one round, one after the other."""
SECONDS = 5.0
"""Of one round with many callers."""
CALLERS = 50
WAITING = 5_000
ENTERING = 90.0
"""Seconds within which they have to be in."""
LONGEST_WAIT = 180
"""Seconds that the gateway lets callers wait at most: on a slow machine it takes a while until all are there."""
WARM_UP = 200
FOLLOWED = 250
"""Values of the stream that is followed."""
WORKED_OFF = 120.0
"""Seconds within which a backlog has to be."""
PERIOD = 0.02
"""Seconds between two calls beside a backlog, if nothing else is said, or looks at it."""
BEGUN, CALLED, ALONE = 0.25, 0.6, 0.65
"""Parts of a backlog: until calls begin, until they end, until epochs have the size again that they have without."""


async def compared(systems: Sequence[System], rounds: int) -> dict[str, Any]:
    """Rounds of each in turn; a ratio is the median over rounds."""
    for system in systems:
        await system.one_after_the_other(WARM_UP)
        await system.at_the_same_time(CALLERS, 1.0)
    for number in range(rounds):
        for system in systems:
            system.sequential.append(share_of(await system.one_after_the_other(SEQUENTIAL), 0.5))
            system.rates.append(await system.at_the_same_time(CALLERS, SECONDS))
            say(f"{number}: {system.name}: p50 {system.sequential[-1] * 1000:.2f} ms, {system.rates[-1]:,.0f} calls/s")
    ours, yardstick = systems
    p50 = [one / other for one, other in zip(ours.sequential, yardstick.sequential, strict=True)]
    rates = [one / other for one, other in zip(ours.rates, yardstick.rates, strict=True)]
    figures: dict[str, Any] = {
        "p50_ratio": round(statistics.median(p50), 2), "throughput_ratio": round(statistics.median(rates), 2),
        "p50_ratios": [round(each, 2) for each in p50], "throughput_ratios": [round(each, 2) for each in rates],
    }  # fmt: skip
    for system in systems:
        figures[f"{system.name}_p50_ms"] = round(statistics.median(system.sequential) * 1000, 2)
        figures[f"{system.name}_calls_per_second"] = round(statistics.median(system.rates))
    return figures


async def messages(ours: System, count: int) -> dict[str, Any]:
    """From a message sent until the caller who waits for its reply has it; its run stands at a wait before."""
    took: list[float] = []
    async with Connection(ours.address) as connection:
        for number in range(count):
            key = f"m{number}"
            asked = await connection.call("POST", ours.path.format(key), body_of(key, number, wait=True))
            path = ours.path.format(key).replace("/events", "/messages/go")
            body = msgspec.json.encode({"number": number})
            answer = await connection.call("POST", path, body, {"prefer": "wait=20"})
            if (asked.status, answer.status, answer.body) != (OK, OK, body):
                raise AssertionError(f"{asked.body!r}, then {answer.status} {answer.body!r}")
            took.append(answer.seconds)
    say(f"message to answer: p50 {milliseconds(took, 0.5)}, p99 {milliseconds(took, 0.99)} ms")
    return {"message_p50_ms": milliseconds(took, 0.5), "message_p99_ms": milliseconds(took, 0.99)}


async def many_waiting(ours: System, url: str, held: psutil.Process, serving: psutil.Process) -> dict[str, Any]:
    """So many callers wait, as the worker stands still: connections to the store, and how the process answers others.

    Then the worker goes on, and all have to get their answers.
    """
    before = serving.memory_info().rss
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        connections = [await stack.enter_async_context(Connection(ours.address)) for _ in range(WAITING)]
        healthy = await stack.enter_async_context(Connection(ours.address))
        held.suspend()
        try:
            began = time.perf_counter()
            calls = [
                asyncio.create_task(connection.call(
                    "POST", ours.path.format(f"w{number}"), body_of(f"w{number}", number),
                    {"prefer": f"wait={LONGEST_WAIT}"},
                ))
                for number, connection in enumerate(connections)
            ]  # fmt: skip
            entered = await _entered(client)
            entering = time.perf_counter() - began
            took = [await _health(healthy) for _ in range(200)]
            store = int(url.rpartition(":")[2].partition("/")[0])
            used = sum(1 for each in serving.net_connections("tcp") if each.raddr and each.raddr.port == store)
            say(f"{entered} waiting after {entering:.1f} s: {used} connections to the store")
            memory = (serving.memory_info().rss - before) / 1e6
        finally:
            held.resume()
        answers = await asyncio.gather(*calls)
    wrong = [answer for answer in answers if answer.status not in (OK, ACCEPTED)]
    if wrong:
        say(f"{len(wrong)} of {WAITING} calls were refused: {wrong[0]}")
    return {
        "waiting": entered, "waiting_answered": sum(answer.status == OK for answer in answers),
        "waiting_refused": len(wrong), "waiting_entered_seconds": round(entering, 1),
        "waiting_store_connections": used, "waiting_megabytes": round(memory, 1),
        "waiting_healthz_p50_ms": milliseconds(took, 0.5), "waiting_healthz_p99_ms": milliseconds(took, 0.99),
    }  # fmt: skip


async def _entered(client: redis.asyncio.Redis) -> int:
    """How many requests lie in the inboxes, once all are there, or the time is over."""
    inboxes = [PartitionKeys("gateway-bench", number).stream("inbox") for number in range(PARTITIONS)]
    end = time.perf_counter() + ENTERING
    while True:
        found = sum([await client.xlen(inbox) for inbox in inboxes])
        if found >= WAITING or time.perf_counter() > end:
            return found
        await asyncio.sleep(0.05)


async def _health(connection: Connection) -> float:
    await asyncio.sleep(0.005)
    return (await connection.call("GET", "/healthz")).seconds


async def followed(talking: System) -> dict[str, Any]:
    """From a value written by a node to one who follows its stream (SSE); those from before they came don't count."""
    path = talking.path.format("f")
    async with Connection(talking.address) as asking, Connection(talking.address) as following:
        asked = await asking.call("POST", path, msgspec.json.encode(Talk("f", FOLLOWED)), {"prefer": "respond-async"})
        if asked.status != ACCEPTED:
            raise AssertionError(f"{asked.status} {asked.body!r}")
        began = time.monotonic()
        took: list[float] = []
        stream = path.replace("/events", f"/streams/{STREAM}")
        async for line in following.lines(stream, {"accept": "text/event-stream"}):
            if line.startswith(b"data: "):
                written = float(line.removeprefix(b"data: "))
                took += [time.monotonic() - written] if written > began else []
                if len(took) >= FOLLOWED - round(1 / PAUSE):
                    break
    say(f"value to follower: p50 {milliseconds(took, 0.5)}, p99 {milliseconds(took, 0.99)} ms")
    return {
        "follower_values": len(took), "follower_p50_ms": milliseconds(took, 0.5),
        "follower_p99_ms": milliseconds(took, 0.99),
    }  # fmt: skip


async def fill(bootstrap: str, records: int) -> None:
    """A backlog of the workflow that also answers requests."""
    await ensure_topics(KafkaConnection("", bootstrap), {TOPIC: PARTITIONS}, configs={"retention.ms": "-1"})
    now = round(time.time() * 1000)
    keys = [f"k{number}" for number in range(KEYS)]
    rows = (
        (keys[number % KEYS].encode(), msgspec.json.encode(Ask(keys[number % KEYS], number, silent=True)), now)
        for number in range(records)
    )
    await append(bootstrap, TOPIC, rows, partitions=PARTITIONS)


async def beside_a_backlog(ours: System, url: str, records: int, pause: float = PERIOD) -> dict[str, Any]:
    """Calls while the topic is worked off, and how fast that is with them and without.

    The first quarter is the start, and without calls; they come until six tenths are done, and from then on none.

    Args:
        ours: Which is called.
        url: Of its store.
        records: Of the topic.
        pause: Seconds between two calls.
    """
    took: list[float] = []
    async with redis.asyncio.Redis.from_url(url) as client, Connection(ours.address) as connection:
        backlog = Backlog(client, records)
        await backlog.until(BEGUN)
        before = backlog.looked
        for number in itertools.count():
            took.append((await ours.call(connection, number)).seconds)
            if await backlog.done() >= CALLED:
                break
            await asyncio.sleep(pause)
        beside = backlog.rate(before)
        await backlog.until(ALONE)
        before = backlog.looked
        await backlog.until(1.0)
        alone = backlog.rate(before)
    say(f"{beside:,.0f} records/s beside {len(took)} calls, {alone:,.0f} alone: p99 {milliseconds(took, 0.99)} ms")
    return {
        "backlog_records": records, "backlog_records_per_second": round(beside),
        "backlog_records_per_second_alone": round(alone), "backlog_calls": len(took),
        "backlog_call_p50_ms": milliseconds(took, 0.5), "backlog_call_p99_ms": milliseconds(took, 0.99),
        "backlog_call_most_ms": milliseconds(took, 1.0),
    }  # fmt: skip


class Backlog:
    """How far a topic is worked off.

    Args:
        client: Of the store.
        records: Of the topic.
    """

    def __init__(self, client: redis.asyncio.Redis, records: int) -> None:
        self._client = client
        self._records = records
        self._end = time.perf_counter() + WORKED_OFF
        self.looked = (time.perf_counter(), 0)
        """When it was looked at last, and how many records were committed then."""

    async def done(self) -> float:
        """The part that is committed, from 0 to 1."""
        found = await read(self._client)
        self.looked = (time.perf_counter(), found)
        if time.perf_counter() > self._end:
            raise AssertionError(f"{found} of {self._records} records are worked off")
        return found / self._records

    async def until(self, part: float) -> None:
        """Wait until so much is committed."""
        while True:
            if await self.done() >= part:
                return
            await asyncio.sleep(PERIOD)

    def rate(self, since: tuple[float, int]) -> float:
        """Records a second from one look to the last."""
        return (self.looked[1] - since[1]) / (self.looked[0] - since[0])


async def read(client: redis.asyncio.Redis) -> int:
    """Records of the topic that are committed: the sum of its positions."""
    total = 0
    for number in range(PARTITIONS):
        rows = await client.hgetall(PartitionKeys("gateway-bench-backlogged", number).positions)
        total += position_in(rows)
    return total


def position_in(rows: Mapping[Any, Any]) -> int:
    """Records of the topic before a partition's positions: `backlogged/0` -> `51800@<id of the topic>`."""
    own = (text for name, text in rows.items() if name.startswith(f"{TOPIC}/".encode()))
    return sum(int(text.partition(b"@")[0]) for text in own)


async def for_long(ours: System, calls: int, serving: psutil.Process) -> dict[str, Any]:
    """Memory of the gateway over so many calls, looked at twenty times; its slope is that of the second half."""
    numbers = itertools.count()
    rows: list[tuple[int, float]] = []
    began = time.perf_counter()

    async def caller() -> None:
        async with Connection(ours.address) as connection:
            for number in numbers:
                if number >= calls:
                    return
                await ours.call(connection, number)
                if number % (calls // 20) == calls // 20 - 1:
                    rows.append((number + 1, serving.memory_info().rss / 1e6))
                    say(f"{number + 1:,} calls: {rows[-1][1]:.1f} MB")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return {
        "long_calls": calls, "long_calls_per_second": round(calls / (time.perf_counter() - began)),
        "long_megabytes": [round(megabytes, 1) for _, megabytes in rows], "long_slope_mb_per_million": slope(rows),
    }  # fmt: skip


def slope(rows: Sequence[tuple[int, float]]) -> float:
    """Megabytes for a million calls, by least squares over the second half of looks (calls so far, megabytes)."""
    half = sorted(rows)[len(rows) // 2 :]
    return round(statistics.linear_regression(*zip(*half, strict=True)).slope * 1e6, 2)
