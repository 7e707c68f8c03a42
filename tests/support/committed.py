"""What readers of committed records see of a topic."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from headrace.sources.kafka_metadata import describe_topics
from waiting import until_async

_OVER_WITHIN = 40.0
"""Seconds until the transaction of a process that is gone has ended: broker's time-out and period."""


async def committed_records(bootstrap: str, topic: str) -> list[Any]:
    """All committed records that are there now, partition by partition.

    The commit of a transaction is answered a moment before its records can be seen, so this waits until no
    transaction is open in what is there.
    """
    places = await _places(bootstrap, topic)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as everything:
        ends = await everything.end_offsets(places)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed")
    async with consumer:

        async def is_over() -> bool:
            stable = await consumer.end_offsets(places)
            return all(stable[place] >= end for place, end in ends.items())

        await until_async(is_over, f"no transaction is open in {topic}", within=_OVER_WITHIN)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found: dict[TopicPartition, list[Any]] = {place: [] for place in places}
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                found[place] += records
        return [record for records in found.values() for record in records]


async def read_committed(bootstrap: str, topic: str) -> list[bytes | None]:
    """Values of these records."""
    return [record.value for record in await committed_records(bootstrap, topic)]


async def _places(bootstrap: str, topic: str) -> list[TopicPartition]:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        found = await describe_topics(client, [topic])
        return [TopicPartition(topic, number) for number in sorted(found[topic].leaders)]
    finally:
        await client.close()
