"""What readers of committed records see of a topic."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from headrace.sources.kafka_metadata import describe_topics


async def committed_records(bootstrap: str, topic: str) -> list[Any]:
    """All records up to the last stable offset now, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed")
    async with consumer:
        places = await _places(bootstrap, topic)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: dict[TopicPartition, list[Any]] = {place: [] for place in places}
        while any([await consumer.position(place) < ends[place] for place in places]):
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
