"""G6: memory is bounded whatever comes in, and whatever can't go out. Mechanisms: limits of reader, core and relay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.workflows.keyspace import partition_of
from rig import Rig, run
from solo import solo
from waiting import until

BACKLOG = 200_000
PADDING = 1_000
GROWTH = 80
"""MB; the backlog has 200."""


@pytest.mark.slow
@pytest.mark.cluster
def test_G6_memory_stays_bounded_while_a_slow_node_works_off_a_large_backlog(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, own_valkey: Valkey, tmp_path: Path
) -> None:
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    with Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, flow="slow") as rig:
        run(produce(kafka.bootstrap, readings, 2_000))
        until(lambda: run(done(rig)) == 2_000, "it has begun")
        processes = {name: psutil.Process(rig.pid(name)) for name in ("worker/0", "work/0")}
        first = {name: megabytes(process) for name, process in processes.items()}
        most = dict(first)

        run(produce(kafka.bootstrap, readings, BACKLOG))

        def worked_off() -> bool:
            most.update({name: max(most[name], megabytes(process)) for name, process in processes.items()})
            return run(done(rig)) == BACKLOG + 2_000

        until(worked_off, "all is worked off", within=120)
    growth = {name: round(most[name] - first[name]) for name in most}
    print(f"\nresident memory at first {first}, growth {growth} MB")
    assert max(growth.values()) < GROWTH


@pytest.fixture
def rig_with_a_sink_of_its_own(
    kafka: Broker, topic: Topics, own_kafka: Broker, own_valkey: Valkey, tmp_path: Path
) -> Iterator[Rig]:
    """Readings on the session's broker, alerts on one that may be killed; all nodes in the worker."""
    readings, alerts = topic(4, name="readings"), Topics(own_kafka.bootstrap)(4, name="alerts")
    yield Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, sink=own_kafka.bootstrap, fuse=True)


def most_outputs_waiting(rig: Rig, sink: Broker, backlog: int) -> int:
    """What waits in a worker whose sink is away, once it takes no more events; then the sink comes back."""
    with solo(rig, backlog=backlog) as worker:
        rig.load.send(100)
        rig.check()
        sink.kill()
        rig.load.send(20_000)

        def status() -> dict[str, int]:
            counters: dict[str, int] = worker.status()["counters"]
            return counters

        def stands() -> bool:
            before = status()
            run(asyncio.sleep(1))
            return status() == before and before["outputs_waiting"] > 0

        until(stands, "it takes no more events")
        waiting = status()["outputs_waiting"]
        until(lambda: any(row["word"] == "relay_blocked" for row in worker.status()["problems"]), "it is named")
        sink.start()
        rig.check()
    return waiting


def test_G6_partitions_pause_while_their_sink_is_away(rig_with_a_sink_of_its_own: Rig, own_kafka: Broker) -> None:
    assert most_outputs_waiting(rig_with_a_sink_of_its_own, own_kafka, backlog=200) < 2_000


def test_G6_fails_without_the_limit_of_the_relay(rig_with_a_sink_of_its_own: Rig, own_kafka: Broker) -> None:
    assert most_outputs_waiting(rig_with_a_sink_of_its_own, own_kafka, backlog=10**9) > 3_000


async def produce(bootstrap: str, topic: str, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=262_144) as producer:
        for number in range(count):
            key = f"s{number % 200}"
            value = f'{{"sensor":"{key}","padding":"{"x" * PADDING}"}}'.encode()
            await producer.send(topic, value, key=key.encode(), partition=partition_of(key, 4))


async def done(rig: Rig) -> int:
    """Events committed, by the positions."""
    await asyncio.sleep(0.2)
    async with Store(rig.redis_url, "slow", connections=1) as store:
        heads = [await store.head(partition) for partition in range(4)]
    return sum(int(position.partition("@")[0]) for head in heads for position in head.positions.values())


def megabytes(process: psutil.Process) -> int:
    return int(process.memory_info().rss / 1e6)
