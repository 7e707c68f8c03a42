"""G1, G3: each join fires once, in the order of its key, though workers are killed while ten thousand branches meet.

Mechanism: what a join knows of an event is state of its run, written in the commit that the branch is of.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from brokers import Broker, Topics
from committed import committed_records
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from ledger import PARTITIONS, drained
from rig import Rig
from waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

COUNT = 10_000
KILLS = 3
PATIENCE = 240.0


class Reading(msgspec.Struct):
    sensor: str
    number: int
    celsius: float


class Met(msgspec.Struct):
    sensor: str
    number: int
    ordinal: int
    whole: bool


async def sent(bootstrap: str, topic: str) -> tuple[list[Reading], dict[int, int]]:
    """The readings that can be read, key by key in their order; and where each topic partition ends."""
    found, ends = [], dict.fromkeys(range(PARTITIONS), 0)
    for record in await committed_records(bootstrap, topic):
        ends[record.partition] = record.offset + 1
        try:
            found.append(msgspec.json.decode(record.value, type=Reading))
        except msgspec.DecodeError:
            continue
    return found, ends


async def is_done(rig: Rig, ends: dict[int, int]) -> bool:
    """All is read, and has left."""
    async with Store(rig.redis_url, rig.deployment.workflow, connections=1) as store:
        waiting = [await store.outbox(number, 0, 1) for number in range(PARTITIONS)]
        return not any(waiting) and await drained(store, rig.readings, ends)


async def counted(rig: Rig) -> int:
    """How many met, as the states have it."""
    async with Store(rig.redis_url, rig.deployment.workflow, connections=1) as store:
        keys = [(number, key) for number in range(PARTITIONS) for key in await store.run_keys(number)]
        runs = [await store.run(*place) for place in keys]
    return sum(msgspec.json.decode(run["node:tell"])["met"] for run in runs if "node:tell" in run)


def test_G01_each_join_fires_once_though_workers_are_killed(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, redis_url: str, tmp_path: Path
) -> None:
    readings, told = topic(PARTITIONS, name="readings"), topic(PARTITIONS, name="told")
    with Rig(tmp_path, kafka.bootstrap, redis_url, readings, told, flow="paired", workers=1) as rig:
        rig.ready()
        with rig.load:
            for _ in range(KILLS):
                rig.hit("worker/0")
            until(lambda: rig.load.sent >= COUNT, "as many were sent", within=PATIENCE)
        expected, ends = asyncio.run(sent(kafka.bootstrap, readings))
        until(lambda: asyncio.run(is_done(rig, ends)), "all has met, and left", within=PATIENCE)
        in_states = asyncio.run(counted(rig))

    met = [
        msgspec.json.decode(record.value, type=Met) for record in asyncio.run(committed_records(kafka.bootstrap, told))
    ]
    assert len(expected) >= COUNT * 0.99
    assert in_states == len(expected)
    if kafka.transactions:
        assert len(met) == len(expected)
    by_key: dict[str, list[Met]] = defaultdict(list)
    for row in {(row.sensor, row.ordinal): row for row in met}.values():
        by_key[row.sensor].append(row)
    for sensor, rows in by_key.items():
        own = [reading for reading in expected if reading.sensor == sensor]
        wanted = [(reading.number, place, reading.celsius > -273) for place, reading in enumerate(own, 1)]
        assert [(row.number, row.ordinal, row.whole) for row in rows] == wanted, sensor
