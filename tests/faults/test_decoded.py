"""On actors, over the death of their processes: Avro, Protobuf and a schedule, each event once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import reading_messages
from brokers import Broker, Topics
from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.store import Store
from headrace.workflows.keyspace import partition_of
from ledger import FLOWS
from registry_double import RegistryDouble
from waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SENSORS = ("avro-1", "avro-2", "protobuf-1", "protobuf-2")
FEW, ALL = 100, 400
"""Numbers that each sensor has sent before its workflow is hit, and in the end."""
SCHEMA = json.dumps({
    "type": "record", "name": "Reading",
    "fields": [{"name": "sensor", "type": "string"}, {"name": "number", "type": "long"}],
})  # fmt: skip


class Sensors:
    """Send numbers as the serializers of the registry's own client write them."""

    def __init__(self, bootstrap: str, registry: str, topics: dict[str, str]) -> None:
        client: Any = SchemaRegistryClient({"url": registry})
        avro: Any = AvroSerializer(client, SCHEMA)
        options = {"use.deprecated.format": False}
        protobuf: Any = ProtobufSerializer(reading_messages.ReadingMessage, client, options)
        self._written: dict[str, Callable[[str, int, Any], bytes]] = {
            "avro": lambda sensor, number, to: avro({"sensor": sensor, "number": number}, to),
            "protobuf": lambda sensor, number, to: protobuf(
                reading_messages.ReadingMessage(sensor=sensor, number=number), to
            ),
        }
        self._bootstrap, self._topics = bootstrap, topics

    async def send(self, numbers: range) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap)
        await producer.start()
        for number in numbers:
            for sensor in SENSORS:
                kind = sensor.partition("-")[0]
                topic = self._topics[kind]
                value = self._written[kind](sensor, number, SerializationContext(topic, MessageField.VALUE))
                await producer.send(topic, value, key=sensor.encode())
        await producer.stop()


@pytest.fixture
def registry() -> Iterator[str]:
    with RegistryDouble() as double:
        yield double.url


def test_G01_avro_protobuf_and_a_schedule_count_once_when_actors_are_killed(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, redis_url: str, registry: str, tmp_path: Path
) -> None:
    topics = {"avro": topic(2, name="avro"), "protobuf": topic(2, name="protobuf")}
    sensors = Sensors(kafka.bootstrap, registry, topics)
    cluster = start(deployment(tmp_path, redis_url, kafka.bootstrap, registry, topics))
    try:
        asyncio.run(sensors.send(range(FEW)))
        until(lambda: len(state(redis_url, SENSORS[0], "keep")) > 0, "events are processed")
        until(lambda: len(state(redis_url, "clock", "tick")) > 5, "the clock ticks")
        for role in ("worker/0", "keep/0", "tick/0"):
            os.kill(pid_of(cluster, role), signal.SIGKILL)
        before = state(redis_url, "clock", "tick")
        asyncio.run(sensors.send(range(FEW, ALL)))

        for sensor in SENSORS:
            numbers = until(lambda s=sensor: found(redis_url, s), f"all of {sensor} is processed", within=60)
            assert numbers == list(range(ALL)), sensor
        until(lambda: len(state(redis_url, "clock", "tick")) > len(before) + 10, "the clock goes on")
        ticks = state(redis_url, "clock", "tick")
        assert ticks[: len(before)] == before
        assert {later - earlier for earlier, later in pairwise(ticks)} == {100}
    finally:
        cluster.stop()


def deployment(folder: Path, redis_url: str, bootstrap: str, registry: str, topics: dict[str, str]) -> Any:
    shutil.copy(reading_messages.__file__, folder)
    text = (FLOWS / "decoded.py").read_text().replace("http://registry", registry)
    for kind, name in topics.items():
        text = text.replace(f"{kind}-topic", name)
    file = folder / f"decoded_{folder.name}.py"
    file.write_text(text)
    code, workflow = load_workflow(file.name, folder)
    return deployment_of(workflow.compile(), code, redis_url, kafka={"bootstrap_servers": bootstrap})


def pid_of(cluster: Cluster, role: str) -> int:
    """Of a role's process, as soon as it serves."""

    def look() -> int | None:
        status = cluster.status()
        rows = status.roles if status is not None else ()
        return next((row.pid for row in rows if row.name == role and row.state == "serving"), None)

    pid: int = until(look, f"{role} serves")
    return pid


def state(redis_url: str, key: str, node: str) -> list[int]:
    """What a node has kept of a run."""

    async def look() -> list[int]:
        async with Store(redis_url, "decoded", connections=1) as store:
            run = await store.run(partition_of(key, 2), key)
        return msgspec.json.decode(run.get(f"node:{node}", b"[]"), type=list[int])

    return asyncio.run(look())


def found(redis_url: str, sensor: str) -> list[int] | None:
    """What there is of a sensor, once it is enough."""
    numbers = state(redis_url, sensor, "keep")
    return numbers if len(numbers) >= ALL else None
