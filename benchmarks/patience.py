"""What waits: a million pending timers in one partition, a storm of retries, a key that fails for a minute.

The last line is JSON: how late timers came (milliseconds), the worker's memory with them beside that of an empty one
(megabytes), throughput in the storm beside that of a node that does not fail, latency of other keys beside a hot one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.deployed import ROOT
from benchmarks.flow import ALERTS
from benchmarks.patience_flow import HOT_KEY, LATE, Wish
from benchmarks.workload import Reading, readings
from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.embedded import ApacheKafka, Valkey
from headrace.logs import configure_logs
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics
from headrace.workflows.descriptor import descriptor_of

SAMPLE = 2_000
"""Timers, or events, that are looked at one by one."""
RATE = 200
"""Of them a second."""
WARM_UP = 400
"""Before them, and not counted: the first seconds of a worker, and of a broker that is new."""
HOT_SHARE = 5
"""Every so-many-th event is of the hot key."""
WITHIN = 900.0


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """The servers, and what is run on them."""

    def __init__(self, redis_url: str, bootstrap: str, *, fused: bool = True) -> None:
        self.redis_url, self.bootstrap, self.fused = redis_url, bootstrap, fused

    def topic(self, name: str) -> None:
        """Make a topic of one partition."""
        connection = KafkaConnection("", self.bootstrap)
        asyncio.run(ensure_topics(connection, {name: 1}, configs={"retention.ms": "-1"}))

    @contextmanager
    def deployed(self, kind: str, topic: str) -> Iterator[tuple[Cluster, str]]:
        """One of the workflows in one worker, its node in there or in an actor of its own."""
        ref, workflow = load_workflow(f"benchmarks.patience_flow:{kind}__{topic.replace('-', '_')}", ROOT)
        plan = workflow.compile(fuse="all" if self.fused else None)

        async def publish() -> None:
            async with Registry(self.redis_url, connections=1) as registry:
                await registry.publish_workflow(descriptor_of(plan, 1))

        asyncio.run(publish())
        kafka = {"bootstrap_servers": self.bootstrap}
        cluster = start(
            deployment_of(
                plan, ref, self.redis_url, fuse=self.fused, kafka=kafka, partitions=1, spares=0, start_over=True
            )
        )
        try:
            yield cluster, plan.name
        finally:
            cluster.stop()

    async def fill(self, topic: str, data: Iterator[Wish | Reading], rate: float | None = None) -> None:
        """Append these; so many a second, or as fast as can be."""
        encode, began = msgspec.json.encode, time.monotonic()
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, linger_ms=0 if rate else 20, max_batch_size=1 << 18
        ) as producer:
            for number, row in enumerate(data):
                if rate is not None:
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                value = encode(msgspec.structs.replace(row, sent=time.time()) if rate else row)
                key = row.key if isinstance(row, Wish) else row.sensor
                await producer.send(topic, value, key=key.encode(), partition=0)
            await producer.flush()

    def soon(self, topic: str) -> None:
        """Append wishes for a second later."""
        asyncio.run(self.fill(topic, (Wish(f"soon-{number}", 1.0) for number in range(WARM_UP + SAMPLE)), RATE))

    async def told(self, fill: Callable[[], object], count: int) -> list[tuple[float, float]]:
        """What comes to the sink from now on: (data, seconds since 1970 at which it was read)."""
        consumer = AIOKafkaConsumer(
            LATE, bootstrap_servers=self.bootstrap, auto_offset_reset="latest", isolation_level="read_committed",
            fetch_max_wait_ms=5,
        )  # fmt: skip
        await consumer.start()
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        filling = asyncio.ensure_future(asyncio.to_thread(fill))
        rows: list[tuple[float, float]] = []
        try:
            async with asyncio.timeout(WITHIN):
                while len(rows) < count:
                    for records in (await consumer.getmany(timeout_ms=50)).values():
                        rows += [(msgspec.json.decode(record.value), time.time()) for record in records]
            await filling
        finally:
            await consumer.stop()
        return rows


class Worked(NamedTuple):
    """What a worker has done."""

    seconds: float
    cpu: float
    """Seconds of processor time."""
    pid: int


def until(cluster: Cluster, events: int) -> Worked:
    """Wait until its worker has committed so many."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        status = cluster.status()
        worker = next((role for role in status.roles if role.role == "worker/0"), None) if status else None
        if worker is not None and worker.counters.get("events", 0) >= events:
            counters = worker.counters
            seconds = counters.get("worked_until", 0.0) - counters.get("worked_from", 0.0)
            return Worked(seconds, counters.get("worked_cpu", 0.0), worker.pid or 0)
        time.sleep(0.25)
    raise TimeoutError(f"{events:,} events are not done")


def worker_of(cluster: Cluster) -> psutil.Process:
    """The process of the worker, once it is there."""
    return psutil.Process(until(cluster, 0).pid)


def share_of(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1)


def timers(bench: Bench, pending: int) -> dict[str, object]:
    """So many timers pending in one partition, and some that fall due."""
    figures: dict[str, object] = {"timers_pending": pending}
    memory: dict[str, float] = {}
    for kind, count in (("empty", 0), ("full", pending)):
        topic = f"bench-{kind}"
        bench.topic(topic)
        if count:
            began = time.monotonic()
            asyncio.run(bench.fill(topic, (Wish(f"run-{number}", 86_400.0) for number in range(count))))
            with bench.deployed("timers", topic) as (cluster, _):
                seconds = until(cluster, count).seconds
            say(f"{count:,} timers set in {seconds:.0f} s ({time.monotonic() - began:.0f} s with the topic)")
            figures["timers_set_per_second"] = round(count / seconds)
        with bench.deployed("timers", topic) as (cluster, _):  # a fresh worker: it holds nothing of those before
            process = worker_of(cluster)
            rows = asyncio.run(bench.told(partial(bench.soon, topic), WARM_UP + SAMPLE))[WARM_UP:]
            memory[kind] = process.memory_info().rss / 1e6
            late = [row[0] for row in rows]
            say(f"{kind}: {memory[kind]:.0f} MB; late p99 {share_of(late, 0.99)}, at most {max(late):.1f} ms")
            figures |= {f"{kind}_late_p50_ms": share_of(late, 0.5), f"{kind}_late_p99_ms": share_of(late, 0.99)}
            figures |= {f"{kind}_late_max_ms": round(max(late), 1), f"{kind}_early": sum(row < 0 for row in late)}
            figures[f"{kind}_megabytes"] = round(memory[kind], 1)
    figures["timers_megabytes_more"] = round(memory["full"] - memory["empty"], 1)
    return figures


def storm(bench: Bench, events: int, keys: int, work: int = 0) -> dict[str, object]:
    """Throughput where three of ten attempts fail, beside where none does; each takes so many microseconds."""
    return stormy(
        bench, ("calm", "storm"), f"_{work}us" if work else "", events,
        lambda: (Wish(f"k{number % keys}", 0.0, work=work) for number in range(events)),
    )  # fmt: skip


def sensors(bench: Bench, events: int, work: int = 0) -> dict[str, object]:
    """The same for three nodes with a state and a sink, of which the second fails, and a tenth of the keys."""
    kinds = ("sensors_25us", "failing_25us") if work else ("sensors", "failing")
    return stormy(bench, kinds, "", events, lambda: (reading for _, reading in readings(events)))


def stormy(
    bench: Bench, kinds: tuple[str, str], suffix: str, events: int, data: Callable[[], Iterator[Wish | Reading]]
) -> dict[str, object]:
    """Throughput of two workflows over the same data, without failures and with.

    Args:
        bench: The servers.
        kinds: Of the workflows, see `patience_flow`.
        suffix: Of the figures' names.
        events: How many there are.
        data: Gives them.
    """
    rates: list[float] = []
    figures: dict[str, object] = {}
    for kind in kinds:
        name = f"{kind}{suffix}"
        topic = f"bench-{name.replace('_', '-')}"
        bench.topic(topic)
        asyncio.run(bench.fill(topic, data()))
        with bench.deployed(kind, topic) as (cluster, workflow):
            until(cluster, events)
            asyncio.run(_until_nothing_stands(bench.redis_url, workflow))
            worked = until(cluster, events)
        rates.append(events / worked.seconds)
        cpu = worked.cpu / events * 1e6
        say(f"{name}: {rates[-1]:,.0f} events a second, {cpu:.1f} s of CPU a million")
        figures |= {
            f"{name}_events_per_second": round(rates[-1]), f"{name}_cpu_seconds_per_million": round(cpu, 2),
        }  # fmt: skip
    return {**figures, f"{kinds[1]}{suffix}_ratio": round(rates[1] / rates[0], 3)}


async def _until_nothing_stands(redis_url: str, name: str) -> None:
    async with Store(redis_url, name) as store, asyncio.timeout(WITHIN):
        while await store.parked_fields(0):  # noqa: ASYNC110  it is another process that changes them
            await asyncio.sleep(0.1)


def hot(bench: Bench) -> dict[str, object]:
    """Latency of other keys while one stands still for a minute, beside without it."""
    figures: dict[str, object] = {}
    for kind in ("start", "without", "beside"):  # the first has the start of everything in it, and does not count
        topic = f"bench-{kind}"
        bench.topic(topic)

        def fill(topic: str = topic, hot: bool = kind == "beside") -> None:
            wishes = (
                Wish(HOT_KEY if hot and number % HOT_SHARE == 0 else f"k{number % 100}", 0.0)
                for number in range(SAMPLE + (SAMPLE // (HOT_SHARE - 1) if hot else 0))
            )
            asyncio.run(bench.fill(topic, wishes, RATE))

        with bench.deployed("hot", topic) as (cluster, _):
            worker_of(cluster)
            rows = asyncio.run(bench.told(fill, SAMPLE))
        took = [(read - sent) * 1000 for sent, read in rows]
        if kind == "start":
            continue
        say(f"{kind} a hot key: p50 {share_of(took, 0.5)}, p99 {share_of(took, 0.99)} ms")
        figures |= {f"{kind}_hot_p50_ms": share_of(took, 0.5), f"{kind}_hot_p99_ms": share_of(took, 0.99)}
    return figures


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000, help="timers; 0: leave it out")
    parser.add_argument("--events", type=int, default=300_000, help="of the storm; 0: leave it out")
    parser.add_argument("--keys", type=int, default=10_000, help="of the storm")
    parser.add_argument("--work", default="0,25", help="of the storm: microseconds that an attempt takes, in turn")
    parser.add_argument("--actors", action="store_true", help="the node in an actor of its own, not in the worker")
    parser.add_argument("--no-hot", action="store_true", help="leave the hot key out")
    asked = parser.parse_args()
    configure_logs("warning")
    figures: dict[str, object] = {}
    with Valkey() as redis, ApacheKafka(cache=ROOT / ".cache") as broker, LocalRay(cpus=4):
        bench = Bench(redis.url, broker.bootstrap, fused=not asked.actors)
        bench.topic(LATE)
        bench.topic(ALERTS)
        if asked.events:
            for work in map(int, asked.work.split(",")):
                figures |= storm(bench, asked.events, asked.keys, work)
            for work in (0, 25):
                figures |= sensors(bench, asked.events, work)
        if asked.events and not asked.no_hot:
            figures |= hot(bench)
        if asked.pending:
            figures |= timers(bench, asked.pending)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
