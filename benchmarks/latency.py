"""One idle event at a time: from its sender's hands to its committed effect, seen from outside."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.flow import ASKED
from benchmarks.workload import PARTITIONS, Reading, sensor_name
from headrace.actors.store import Store
from headrace.actors.store_requests import RequestStore
from headrace.gateway.bridge import Bridge
from headrace.workflows.keyspace import partition_of

EVENTS = 200
WARM_UP = 20
PATIENCE = 10.0
"""Seconds after which an event that has no effect fails the run."""
PAUSE = 0.005
"""Seconds between two events: the worker is idle when one comes."""


async def by_request(name: str, redis_url: str) -> float:
    """Median milliseconds: a request into the inbox, through all nodes, its reply committed and back at the caller."""
    store = RequestStore(redis_url)
    bridge = Bridge(redis_url, store)
    await bridge.open()
    taken: list[float] = []
    try:
        for number in range(WARM_UP + EVENTS):
            key = sensor_name(number % 50)
            body = msgspec.json.encode(Reading(key, 40.0, 0, 0))
            began = time.perf_counter()
            _, reply = await bridge.ask(
                name, partition_of(key, PARTITIONS), key, ASKED, body, request=uuid.uuid4().hex, wait=PATIENCE
            )
            taken.append(time.perf_counter() - began)
            if reply is None:
                raise TimeoutError(f"no reply within {PATIENCE} s")
            await asyncio.sleep(PAUSE)
    finally:
        await bridge.close()
        await store.close()
    return statistics.median(taken[WARM_UP:]) * 1e3


async def by_kafka(name: str, redis_url: str, bootstrap: str, topic: str) -> float:
    """Median milliseconds: a record given to a producer, through broker and all nodes, its outputs committed.

    The commit is seen by asking the store again and again, which costs both a little.
    """
    taken: list[float] = []
    sending = AIOKafkaProducer(bootstrap_servers=bootstrap)
    async with Store(redis_url, name, connections=2) as store, sending as producer:
        for number in range(WARM_UP + EVENTS):
            key = sensor_name(number % 50)
            partition = partition_of(key, PARTITIONS)
            value = msgspec.json.encode(Reading(key, 40.0, 0, 0))
            before = (await store.head(partition)).sequence
            began = time.perf_counter()
            sent = await producer.send(topic, value, key=key.encode(), partition=partition)
            while (await store.head(partition)).sequence == before:
                if time.perf_counter() - began > PATIENCE:
                    raise TimeoutError(f"not committed within {PATIENCE} s")
            taken.append(time.perf_counter() - began)
            await sent
            await asyncio.sleep(PAUSE)
    return statistics.median(taken[WARM_UP:]) * 1e3
