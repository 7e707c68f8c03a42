"""How long partitions stand still while a new version takes over, or the number of workers changes, under load.

A partition's figure is the longest time between two of its commits, looked at every 10 ms, from before the change is
said until after it is done. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.deployed import ROOT
from benchmarks.flow import ALERTS
from benchmarks.workload import PARTITIONS, readings
from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.deployments import get_deployment
from headrace.actors.live_change import change_live
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.embedded import ApacheKafka, Tansu, Valkey
from headrace.logs import configure_logs
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics
from headrace.workflows.keyspace import partition_of

NAME = "live"
TOPIC = "bench-live"
RATE = 2_000
"""Readings a second."""
_BURST = 0.02
_LOOK = 0.01
_SETTLE = 8.0
"""Seconds between two changes: until the spare of the last one is up."""


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


async def load(bootstrap: str, done: asyncio.Event) -> None:
    """Readings at a steady rate, until it is done."""
    encode, count, rows = msgspec.json.encode, 0, readings(events=sys.maxsize)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5) as producer:
        began = time.monotonic()
        for _, reading in rows:
            key = reading.sensor.encode()
            await producer.send(TOPIC, encode(reading), key=key, partition=partition_of(reading.sensor, PARTITIONS))
            count += 1
            if done.is_set():
                return
            if count % int(RATE * _BURST) == 0:
                await asyncio.sleep(max(0.0, began + count / RATE - time.monotonic()))


async def watch(redis_url: str, longest: list[float], done: asyncio.Event) -> None:
    """Note the longest time between two commits, by partition, until it is done."""
    async with Store(redis_url, NAME, connections=1) as store:
        last = [(time.monotonic(), -1)] * PARTITIONS
        while not done.is_set():
            for number in range(PARTITIONS):
                sequence, now = (await store.head(number)).sequence, time.monotonic()
                since, before = last[number]
                if before >= 0:
                    longest[number] = max(longest[number], now - since)
                if sequence != before:
                    last[number] = (now, sequence)
            await asyncio.sleep(_LOOK)


async def change(redis_url: str, **fields: Any) -> list[float]:
    """Have it go over to a deployment with these fields; seconds that each partition stood still, the worst first."""
    longest, done = [0.0] * PARTITIONS, asyncio.Event()
    watching = asyncio.create_task(watch(redis_url, longest, done))
    try:
        await asyncio.sleep(1)
        async with Registry(redis_url, connections=1) as registry:
            before = await get_deployment(registry, NAME)
            assert before is not None
            await change_live(registry, before, msgspec.structs.replace(before, **fields), within=timedelta(minutes=2))
        await asyncio.sleep(2)
    finally:
        done.set()
        await watching
    return sorted((round(seconds, 3) for seconds in longest), reverse=True)


async def changes(redis_url: str, bootstrap: str, code: Any, versions: int, *, scale: bool) -> dict[str, object]:
    """All of them, one after the other, under load."""
    figures: dict[str, object] = {}
    done = asyncio.Event()
    loading = asyncio.create_task(load(bootstrap, done))
    rows: list[list[float]] = []
    try:
        await asyncio.sleep(_SETTLE)
        for number in range(versions):
            version = f"{code.version}-{number}"  # what is imported is the same: only the going over is measured
            rows.append(await change(redis_url, code=msgspec.structs.replace(code, version=version)))
            say(f"version {number + 1}: {rows[-1]} s")
            await asyncio.sleep(_SETTLE)
        for workers in (4, 1) if scale else ():
            stood = await change(redis_url, workers=workers)
            figures[f"to_{workers}_workers_s"] = stood
            say(f"to {workers} workers: {stood} s")
            await asyncio.sleep(_SETTLE)
    finally:
        done.set()
        await loading
    worst = [row[0] for row in rows]
    figures |= {"new_version_worst_s": worst, "new_version_best_s": [row[-1] for row in rows]}
    return figures | {"new_version_worst_median_s": statistics.median(worst), "new_version_worst_max_s": max(worst)}


def deploy(redis_url: str, bootstrap: str) -> tuple[Cluster, Any]:
    """Start it: one worker, three node actors, one spare. Returns it, and what its code is."""
    topics = {TOPIC: PARTITIONS, ALERTS: PARTITIONS}
    asyncio.run(ensure_topics(KafkaConnection("", bootstrap), topics))
    code, workflow = load_workflow(f"benchmarks.flow:run_{NAME}__{TOPIC.replace('-', '_')}", ROOT)
    kafka = {"bootstrap_servers": bootstrap}
    return start(deployment_of(workflow.compile(), code, redis_url, kafka=kafka, partitions=PARTITIONS)), code


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=5, help="new versions, one after the other")
    parser.add_argument("--scale", action="store_true", help="also from one worker to four, and back")
    parser.add_argument("--tansu", action="store_true", help="the smaller broker")
    parser.add_argument("--logs", default="warning")
    asked = parser.parse_args()
    configure_logs(asked.logs)
    with Valkey() as redis, Tansu() if asked.tansu else ApacheKafka(cache=ROOT / ".cache") as broker, LocalRay(cpus=4):
        cluster, code = deploy(redis.url, broker.bootstrap)
        try:
            figures = asyncio.run(changes(redis.url, broker.bootstrap, code, asked.versions, scale=asked.scale))
        finally:
            cluster.stop()
    print(json.dumps({"broker": broker.kind, "readings_per_second": RATE, **figures}))


if __name__ == "__main__":
    main()
