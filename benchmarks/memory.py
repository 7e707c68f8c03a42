"""Memory over time: ten million events, and an input three times faster than the node for five minutes.

Prints the resident memory of workers and nodes while it runs, at the end the slope (megabytes a minute,
least squares, over the second half) and what was counted. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import psutil
from aiokafka import AIOKafkaProducer

from benchmarks import slow_flow
from benchmarks.deployed import ROOT, deploy
from benchmarks.flow import ALERTS
from benchmarks.topics import preload
from benchmarks.workload import PARTITIONS, sensor_name
from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.embedded import ApacheKafka, Valkey
from headrace.logs import configure_logs
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics
from headrace.workflows.keyspace import partition_of

FOREVER = {"retention.ms": "-1"}
MILLION = 1_000_000
SENSORS = 1_000


class Watch:
    """Samples the resident memory of all workers and nodes of a workflow, once a second."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.samples: list[tuple[float, float, int]] = []
        """(seconds, megabytes of all together, events committed)."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(1.0):
            status = self._cluster.status()
            if status is None:
                continue
            busy = [role for role in status.roles if role.pid and role.role]
            memory = sum(psutil.Process(role.pid).memory_info().rss for role in busy) / 1e6
            events = sum(int(role.counters.get("events", 0)) for role in busy if role.role == "worker/0")
            self.samples.append((time.monotonic() - began, memory, events))
            if len(self.samples) % 10 == 0:
                print(f"{self.samples[-1][0]:5.0f} s  {memory:7.1f} MB  {events:,} events", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """No more samples."""
        self._stopped.set()
        self._thread.join()

    def slope(self, skip: float, until: float = float("inf")) -> float:
        """Megabytes a minute by least squares, without the first `skip` seconds."""
        rows = [(at / 60, memory) for at, memory, _ in self.samples if skip <= at <= until]
        mean_at = sum(at for at, _ in rows) / len(rows)
        mean = sum(memory for _, memory in rows) / len(rows)
        spread = sum((at - mean_at) ** 2 for at, _ in rows)
        return sum((at - mean_at) * (memory - mean) for at, memory in rows) / spread

    def until(self, events: int, within: float) -> None:
        """Wait until so many are committed."""
        deadline = time.monotonic() + within
        while not self.samples or self.samples[-1][2] < events:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{events:,} events are not done: {self.samples[-1:]}")
            time.sleep(0.5)


async def counted(name: str, redis_url: str, field: str) -> tuple[int, int]:
    """Sum of `count` and `sum` over all states."""
    count = total = 0
    async with Store(redis_url, name) as store:
        for partition in range(PARTITIONS):
            for fields in await store.load(partition, await store.run_keys(partition)):
                state = msgspec.json.decode(fields[field])
                count += state["count"]
                total += int(state["sum"])
    return count, total


def many(redis: Valkey, bootstrap: str, events: int, *, fused: bool) -> dict[str, object]:
    """So many readings through three nodes."""
    topic = "bench-many"
    parts = max(1, events // MILLION)
    asyncio.run(ensure_topics(KafkaConnection("", bootstrap), {ALERTS: PARTITIONS}, configs=FOREVER))
    asyncio.run(preload(bootstrap, topic, events=MILLION, keys=SENSORS))
    cluster = deploy("many", redis.url, bootstrap, fused=fused, topic=topic)
    watch = Watch(cluster)
    for part in range(1, parts):
        asyncio.run(preload(bootstrap, topic, events=MILLION, keys=SENSORS, seed=part))
    watch.until(parts * MILLION, 1800)
    watch.stop()
    count, _ = asyncio.run(counted("many", redis.url, "node:count"))
    cluster.stop()
    last = watch.samples[-1]
    return {
        "many_events": parts * MILLION,
        "many_counted": count,
        "many_megabytes": round(last[1], 1),
        "many_slope_mb_per_minute": round(watch.slope(last[0] * 0.5), 3),
    }


def overload_events(events: int, slow_until: int, cost: float) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and topic partition of each."""
    names = [sensor_name(number) for number in range(SENSORS)]
    homes = [partition_of(name, PARTITIONS) for name in names]
    for number in range(events):
        at = number % SENSORS
        value = msgspec.json.encode(slow_flow.Load(names[at], number, slow_until, cost))
        yield names[at].encode(), value, homes[at]


async def produce(bootstrap: str, rate: int, seconds: float, slow_until: int, cost: float) -> int:
    """So many events a second, for so long."""
    sent = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 18) as producer:
        began = time.monotonic()
        for key, value, home in overload_events(int(rate * seconds), slow_until, cost):
            await producer.send(slow_flow.TOPIC, value, key=key, partition=home)
            sent += 1
            if sent % 500 == 0:
                ahead = sent / rate - (time.monotonic() - began)
                if ahead > 0:
                    await asyncio.sleep(ahead)
        await producer.flush()
    return sent


def overload(redis: Valkey, bootstrap: str, seconds: float, rate: int) -> dict[str, object]:
    """Input at three times the rate of the node, then the backlog is worked off."""
    asyncio.run(ensure_topics(KafkaConnection("", bootstrap), {slow_flow.TOPIC: PARTITIONS}, configs=FOREVER))
    ref, workflow = load_workflow("benchmarks.slow_flow:workflow", ROOT)
    plan = workflow.compile()
    kafka = {"bootstrap_servers": bootstrap}
    cluster = start(deployment_of(plan, ref, redis.url, kafka=kafka, partitions=PARTITIONS, start_over=True))
    watch = Watch(cluster)
    slow_until = int((time.time() + seconds) * 1000)
    sent = asyncio.run(produce(bootstrap, 3 * rate, seconds, slow_until, 1 / rate))
    during = watch.samples[-1]
    watch.until(sent, 1800)
    watch.stop()
    count, total = asyncio.run(counted("overload", redis.url, "node:work"))
    cluster.stop()
    return {
        "overload_sent": sent,
        "overload_committed_during": during[2],
        "overload_counted": count,
        "overload_equal": count == sent and total == sent * (sent - 1) // 2,
        "overload_megabytes": round(during[1], 1),
        "overload_slope_mb_per_minute": round(watch.slope(during[0] * 0.5, during[0]), 3),
    }


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10 * MILLION)
    parser.add_argument("--actors", action="store_true", help="the many events through three node actors, not fused")
    parser.add_argument("--seconds", type=float, default=300.0, help="of overload; 0: leave it out")
    parser.add_argument("--rate", type=int, default=3_000, help="events a second that the slow node manages")
    asked = parser.parse_args()
    configure_logs("warning")
    figures: dict[str, object] = {}
    with Valkey() as redis, ApacheKafka(cache=ROOT / ".cache") as broker, LocalRay(cpus=4):
        if asked.seconds:
            figures |= overload(redis, broker.bootstrap, asked.seconds, asked.rate)
        if asked.events:
            figures |= many(redis, broker.bootstrap, asked.events, fused=not asked.actors)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
