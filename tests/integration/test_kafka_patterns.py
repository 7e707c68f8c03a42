"""Sources that read all topics whose names match, also those that appear later."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from brokers import Broker, Topics
from headrace.sources.kafka import KafkaSource
from headrace.sources.kafka_reader import KafkaReader
from headrace.sources.kafka_subscription import reads
from headrace.workflows.plan import SourcePlan
from kafka_reading import Reading, numbered, plain, values, write
from waiting import until_async


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of this test's topics; they are looked for more often than in life."""
    monkeypatch.setattr("headrace.sources.kafka_fetch.LOOK_SECONDS", 0.3)
    return f"p{uuid.uuid4().hex[:8]}"


def pattern(prefix: str, index: int = 0, **more: Any) -> SourcePlan:
    source: KafkaSource[Any] = KafkaSource(re.compile(rf"{prefix}\..*"), dict, name=f"sensors{index or ''}", **more)
    return SourcePlan(index=index, name=source.name, source=source, type=0, key=None, targets=(0,))


async def test_all_topics_that_match_are_read_each_with_origins_of_its_own(
    kafka: Broker, topic: Topics, prefix: str
) -> None:
    for name in (f"{prefix}.a", f"{prefix}.b", f"other-{prefix}.c"):
        topic.create(name)
        await write(kafka.bootstrap, name, [name.encode()])

    async with Reading(kafka.bootstrap, prefix, source=pattern(prefix)) as reading:
        await reading.assign()
        taken = await reading.take(2)

    assert {(records.origin, records.topic): records.values for records in taken} == {
        (f"sensors/{prefix}.a/0", f"{prefix}.a"): [f"{prefix}.a".encode()],
        (f"sensors/{prefix}.b/0", f"{prefix}.b"): [f"{prefix}.b".encode()],
    }


@pytest.mark.parametrize("start", ["earliest", "latest"])
async def test_a_topic_that_appears_is_found_and_read_from_its_start(
    kafka: Broker, topic: Topics, prefix: str, start: str
) -> None:
    topic.create(f"{prefix}.a")
    async with Reading(kafka.bootstrap, prefix, source=pattern(prefix, start=start)) as reading:
        await reading.assign()
        await write(kafka.bootstrap, f"{prefix}.a", [b"first"])
        await until_async(lambda: reading.ready, "it has begun")
        topic.create(f"{prefix}.b")
        await write(kafka.bootstrap, f"{prefix}.b", numbered(0, 3))
        taken = await reading.take(3)

    new = [value for records in taken if records.topic == f"{prefix}.b" for value in records.values]
    assert new == numbered(0, 3)


async def test_a_topic_that_appeared_while_nobody_read_is_new_also_where_the_end_was_asked_for(
    kafka: Broker, topic: Topics, prefix: str
) -> None:
    topic.create(f"{prefix}.a")
    source = pattern(prefix, start="latest")
    async with Reading(kafka.bootstrap, prefix, partitions=2, source=source) as before:
        await before.assign()
        await until_async(lambda: before.ready >= {0, 1}, "both partitions have begun, also the one without a log")
        await before.take(0)
    topic.create(f"{prefix}.b", 2)
    await write(kafka.bootstrap, f"{prefix}.b", [b"unseen"], 1)

    async with Reading(kafka.bootstrap, prefix, partitions=2, source=source) as reading:
        await reading.assign(before.positions)
        assert values(await reading.take(1)) == [b"unseen"]


async def test_no_match_is_named_until_there_is_one(kafka: Broker, topic: Topics, prefix: str) -> None:
    async with Reading(kafka.bootstrap, prefix, source=pattern(prefix)) as reading:
        await reading.assign()
        assert prefix in await reading.problem("topic_missing")
        topic.create(f"{prefix}.a")
        await write(kafka.bootstrap, f"{prefix}.a", [b"at last"])

        assert values(await reading.take(1)) == [b"at last"]
        await reading.solved("topic_missing")


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_topic_that_vanishes_before_it_was_read_to_its_end_is_named(
    kafka: Broker, topic: Topics, prefix: str, restarted: bool
) -> None:
    topic.create(f"{prefix}.kept")
    topic.create(f"{prefix}.gone")
    await write(kafka.bootstrap, f"{prefix}.gone", [bytes(900_000)] * 12)
    async with Reading(kafka.bootstrap, prefix, source=pattern(prefix)) as reading:
        await reading.assign()
        await until_async(lambda: reading.ready, "some of it has arrived")
        reading.positions.update({row.origin: row.after for row in reading.reader.pull(0, 1)})
        await delete(kafka.bootstrap, f"{prefix}.gone")
        if not restarted:
            assert f"{prefix}.gone" in await reading.problem("topic_gone")
    if restarted:
        async with Reading(kafka.bootstrap, prefix, source=pattern(prefix)) as again:
            await again.assign(reading.positions)
            assert "offset 1" in await again.problem("topic_gone")
            await write(kafka.bootstrap, f"{prefix}.kept", [b"others go on"])
            assert values(await again.take(1)) == [b"others go on"]


async def delete(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name])
    finally:
        await admin.close()


async def test_a_topic_that_two_patterns_match_is_read_by_neither_and_named(
    kafka: Broker, topic: Topics, prefix: str
) -> None:
    topic.create(f"{prefix}.a")
    await write(kafka.bootstrap, f"{prefix}.a", [b"whose?"])
    problems: dict[str, str] = {}
    reader = KafkaReader(
        [pattern(prefix), pattern(prefix, 1)], connection=plain(kafka.bootstrap), partitions=1,
        on_ready=lambda partition: None, on_problem=problems.__setitem__,
    )  # fmt: skip
    await reader.open()
    await reader.assign(0, {})

    await until_async(lambda: problems.get("topic_twice"), "it is named")

    assert "sensors and sensors1" in problems["topic_twice"]
    assert list(reader.logs()) == []
    await reader.close()


def test_a_pattern_matches_whole_names_but_no_topic_of_the_brokers_own_or_of_headrace() -> None:
    everything: KafkaSource[Any] = KafkaSource(re.compile(r".*"), dict, name="all")
    sensors: KafkaSource[Any] = KafkaSource(re.compile(r"sensors\.\w+"), dict, name="sensors")

    assert [reads(sensors, name) for name in ("sensors.a", "sensors.a.b", "old-sensors.a")] == [True, False, False]
    assert [reads(everything, name) for name in ("a", "__consumer_offsets", "headrace.heat.markers")] == [
        True, False, False
    ]  # fmt: skip
