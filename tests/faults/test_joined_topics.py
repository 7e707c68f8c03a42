"""G1, G3: topics with other numbers of partitions than the workflow's are joined by key, each key in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.workflows.keyspace import partition_of
from ledger import write_flow
from solo import solo
from waiting import until

SENSORS = [f"s{number}" for number in range(12)]
COUNT = 25


@dataclass
class Joined:
    """The workflow `joined`, deployed and not started."""

    deployment: Deployment


async def fill(bootstrap: str, names: str, readings: str) -> None:
    """Kafka's own partitioner spreads the names over 3 partitions; readings have no key, and are spread over 5."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5) as producer:
        for index, sensor in enumerate(SENSORS):
            name = msgspec.json.encode({"name": sensor.upper()})
            await producer.send(names, name, key=sensor.encode(), partition=partition_of(sensor, 3))
            for number in range(COUNT):
                reading = msgspec.json.encode({"sensor": sensor, "number": number})
                await producer.send(readings, reading, partition=index % 5)


def states(url: str) -> dict[str, dict[str, object]]:
    """What is known of each sensor, as it is in the store now; a sensor has a run in one partition only."""

    async def look() -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        async with Store(url, "joined", connections=1) as store:
            for partition in range(4):
                for key in await store.run_keys(partition):
                    assert key not in found
                    found[key] = msgspec.json.decode((await store.run(partition, key))["node:join"])
        return found

    return asyncio.run(look())


def test_topics_with_other_numbers_of_partitions_are_joined(
    kafka: Broker, topic: Topics, redis_url: str, tmp_path: Path
) -> None:
    names, readings = topic(3, name="names"), topic(5, name="readings")
    asyncio.run(fill(kafka.bootstrap, names, readings))
    code, workflow = load_workflow(write_flow(tmp_path, readings, names, name="joined").name, tmp_path)
    deployment = deployment_of(
        workflow.compile(fuse="all"), code, redis_url, fuse=True, kafka={"bootstrap_servers": kafka.bootstrap}
    )
    wanted = {sensor: {"name": sensor.upper(), "numbers": list(range(COUNT))} for sensor in SENSORS}

    with solo(Joined(deployment)):
        until(lambda: states(redis_url) == wanted, "all is joined, in order", within=30)
