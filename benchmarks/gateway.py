"""`make bench-gateway`: calls over HTTP beside a bare bridge, in turn on one machine. The last line is JSON.

Both gateways are one uvicorn process, both workers one process, on one Valkey. See `docs/explanation/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import psutil
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.gateway_flow import PARTITIONS, TOPIC, Ask
from benchmarks.http_calls import Answered, Connection
from headrace.embedded import ApacheKafka, Valkey
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics

ROOT = Path(__file__).parent.parent
SEQUENTIAL = 500
"""Calls of one round, one after the other."""
SECONDS = 5.0
"""Of one round with many callers."""
CALLERS = 50
WAITING = 5_000
ENTERING = 25.0
"""Seconds within which they have to be in."""
WARM_UP = 200
KEYS = 1_000
PERIOD = 0.02
"""Seconds between two calls beside a backlog."""
OK, ACCEPTED = 200, 202


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


def share_of(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def milliseconds(values: Sequence[float], share: float) -> float:
    """A share of seconds, in milliseconds."""
    return round(share_of(values, share) * 1000, 2)


class Program:
    """A process that says on its output when it is ready; ended by `end`.

    Args:
        command: What is started.
        ready: What its line has that says so.
        folder: Where.
    """

    def __init__(self, command: Sequence[str], ready: str, folder: Path) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        read: list[str] = []
        for line in self.process.stdout:
            read.append(line)
            if ready in line:
                break
        else:
            raise RuntimeError(f"{' '.join(command)} has ended:\n{''.join(read)}")
        self.said = "".join(read)

    def address(self) -> str:
        """The first address that it has said."""
        return next(word for word in self.said.split() if word.startswith("http://")).partition("/v1")[0]

    def end(self) -> None:
        """End it, in order."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class System:
    """One of the two that are compared."""

    name: str
    address: str
    path: str
    """Of a call; `{}` is the key."""
    sequential: list[float] = field(default_factory=list)
    """Median seconds of each round."""
    rates: list[float] = field(default_factory=list)
    """Calls a second of each round."""

    async def call(self, connection: Connection, number: int) -> Answered:
        """One call; its answer has to be right."""
        key = f"k{number % KEYS}"
        answer = await connection.call("POST", self.path.format(key), _body(key, number))
        if answer.status != OK or msgspec.json.decode(answer.body) != {"number": number + 1}:
            raise AssertionError(f"{self.name}: {answer.status} {answer.body!r}")
        return answer

    async def one_after_the_other(self, count: int) -> list[float]:
        """Seconds of so many calls."""
        async with Connection(self.address) as connection:
            return [(await self.call(connection, number)).seconds for number in range(count)]

    async def at_the_same_time(self, callers: int, seconds: float) -> float:
        """Calls a second of so many callers."""
        numbers = itertools.count()
        end = time.perf_counter() + seconds

        async def caller() -> None:
            async with Connection(self.address) as connection:
                while time.perf_counter() < end:
                    await self.call(connection, next(numbers))

        await asyncio.gather(*(caller() for _ in range(callers)))
        return next(numbers) / seconds


def _body(key: str, number: int, *, wait: bool = False) -> bytes:
    return msgspec.json.encode(Ask(key, number, wait=wait))


@contextmanager
def ended_at_last() -> Iterator[Any]:
    """Starts programs, and ends them."""
    with ExitStack() as stack:

        def start(command: Sequence[str], ready: str, folder: Path = ROOT) -> Program:
            program = Program(command, ready, folder)
            stack.callback(program.end)
            return program

        yield start


def bare(start: Any, url: str) -> System:
    """The yardstick, started."""
    program = str(ROOT / "benchmarks" / "bare_bridge.py")
    start((sys.executable, program, "worker", url), "ready")
    address = start((sys.executable, program, "gateway", url), "http://").address()
    return System("bare", address, "/ask/{}")


def worker(start: Any, url: str, folder: Path, attribute: str, *options: str) -> Program:
    """A worker of one of the workflows, fused, in a process of its own."""
    text = (ROOT / "benchmarks" / "gateway_flow.py").read_text()
    (folder / "gateway_flow.py").write_text(text)
    flow = f"gateway_flow.py:{attribute}"
    command = (sys.executable, "-m", "headrace", "dev", flow, "--inline", "--no-live", "--redis", url, *options)
    program: Program = start(command, "running, after", folder)
    return program


def gateway(start: Any, url: str, folder: Path) -> Program:
    """The gateway, in a process of its own."""
    program: Program = start(
        (sys.executable, "-m", "headrace", "serve", "--redis", url, "--port", "0"), "http://", folder
    )
    return program


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
            asked = await connection.call("POST", ours.path.format(key), _body(key, number, wait=True))
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
    client = redis.asyncio.Redis.from_url(url)
    before = serving.memory_info().rss
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(ours.address)) for _ in range(WAITING)]
        healthy = await stack.enter_async_context(Connection(ours.address))
        held.suspend()
        try:
            calls = [
                asyncio.create_task(connection.call(
                    "POST", ours.path.format(f"w{number}"), _body(f"w{number}", number), {"prefer": "wait=30"}
                ))
                for number, connection in enumerate(connections)
            ]  # fmt: skip
            entered, end = 0, time.perf_counter() + ENTERING
            while entered < WAITING and time.perf_counter() < end:
                await asyncio.sleep(0.05)
                entered = sum([await client.xlen(key) for key in await client.keys("hr:{gateway-bench/*}:inbox")])
            took = [await _health(healthy) for _ in range(200)]
            store = int(url.rpartition(":")[2].partition("/")[0])
            used = sum(1 for each in serving.net_connections("tcp") if each.raddr and each.raddr.port == store)
            say(f"{entered} waiting: {used} connections to the store")
            memory = (serving.memory_info().rss - before) / 1e6
        finally:
            held.resume()
        answers = await asyncio.gather(*calls)
    await client.aclose()
    wrong = [answer for answer in answers if answer.status not in (OK, ACCEPTED)]
    if wrong:
        raise AssertionError(f"{len(wrong)} of {WAITING} calls: {wrong[0]}")
    return {
        "waiting": entered, "waiting_answered": sum(answer.status == OK for answer in answers),
        "waiting_store_connections": used, "waiting_megabytes": round(memory, 1),
        "waiting_healthz_p50_ms": milliseconds(took, 0.5), "waiting_healthz_p99_ms": milliseconds(took, 0.99),
    }  # fmt: skip


async def _health(connection: Connection) -> float:
    await asyncio.sleep(0.005)
    return (await connection.call("GET", "/healthz")).seconds


async def fill(bootstrap: str, records: int) -> None:
    """A backlog of the workflow that also answers requests."""
    await ensure_topics(KafkaConnection("", bootstrap), {TOPIC: PARTITIONS}, configs={"retention.ms": "-1"})
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 18) as producer:
        for number in range(records):
            key = f"k{number % KEYS}"
            await producer.send(TOPIC, msgspec.json.encode(Ask(key, number, silent=True)), key=key.encode())
        await producer.flush()


async def beside_a_backlog(ours: System, url: str, records: int) -> dict[str, Any]:
    """Calls while the topic is worked off; those after its end don't count."""
    client = redis.asyncio.Redis.from_url(url)
    took: list[float] = []
    began = time.perf_counter()
    async with Connection(ours.address) as connection:
        for number in itertools.count():
            took.append((await ours.call(connection, number)).seconds)
            if number % 10 == 9 and await _read(client) >= records:  # noqa: PLR2004
                break
            await asyncio.sleep(PERIOD)
    seconds = time.perf_counter() - began
    await client.aclose()
    say(f"{records:,} records in {seconds:.1f} s; {len(took)} calls: p99 {milliseconds(took, 0.99)} ms")
    return {
        "backlog_records": records, "backlog_records_per_second": round(records / seconds), "backlog_calls": len(took),
        "backlog_call_p50_ms": milliseconds(took, 0.5), "backlog_call_p99_ms": milliseconds(took, 0.99),
    }  # fmt: skip


async def _read(client: redis.asyncio.Redis) -> int:
    """Records of the topic that are committed."""
    total = 0
    for key in await client.keys("hr:{gateway-bench-backlogged/*}:positions"):
        rows: dict[bytes, bytes] = await client.hgetall(key)  # type: ignore[misc]
        total += sum(int(text) for name, text in rows.items() if TOPIC.encode() in name)
    return total


async def for_long(ours: System, calls: int, serving: psutil.Process) -> dict[str, Any]:
    """Memory of the gateway over so many calls: at a tenth of them, and at their end."""
    numbers = itertools.count()
    rows: list[float] = []

    async def caller() -> None:
        async with Connection(ours.address) as connection:
            for number in numbers:
                if number >= calls:
                    return
                await ours.call(connection, number)
                if number % (calls // 10) == calls // 10 - 1:
                    rows.append(serving.memory_info().rss / 1e6)
                    say(f"{number + 1:,} calls: {rows[-1]:.1f} MB")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return {"long_calls": calls, "long_megabytes": [round(each, 1) for each in rows]}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn")
    parser.add_argument("--records", type=int, default=300_000, help="of the backlog; 0: leave it out")
    parser.add_argument("--calls", type=int, default=0, help="for memory; 1000000 takes half an hour")
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    with (
        Valkey(options={"databases": "16"}) as store,
        tempfile.TemporaryDirectory() as folder,
        ended_at_last() as start,
    ):
        base, place = store.url.rpartition("/")[0], Path(folder)
        url = f"{base}/1"
        yardstick = bare(start, f"{base}/0")
        held, serving = worker(start, url, place, "workflow"), gateway(start, url, place)
        ours = System("headrace", serving.address(), "/v1/workflows/gateway-bench/runs/{}/events")
        process = psutil.Process(serving.process.pid)
        figures |= uvloop.run(compared((ours, yardstick), asked.rounds))
        figures |= uvloop.run(messages(ours, SEQUENTIAL))
        figures |= uvloop.run(many_waiting(ours, url, psutil.Process(held.process.pid), process))
        if asked.calls:
            figures |= uvloop.run(for_long(ours, asked.calls, process))
        if asked.records:
            held.end()
            with ApacheKafka(cache=ROOT / ".cache") as broker:
                uvloop.run(fill(broker.bootstrap, asked.records))
                late = System("backlogged", ours.address, "/v1/workflows/gateway-bench-backlogged/runs/{}/events")
                worker(start, url, place, "backlogged", "--kafka", broker.bootstrap)
                figures |= uvloop.run(beside_a_backlog(late, url, asked.records))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
