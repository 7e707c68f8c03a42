"""Makes the benchmark's topics and fills one with readings before anything is measured.

python -m benchmarks.topics --bootstrap 127.0.0.1:9092 --topic readings --alerts alerts
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks import workload
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics
from headrace.workflows.keyspace import partition_of

_BATCH_BYTES = 256 << 10
_BATCHES_AT_ONCE = 16


async def preload(
    bootstrap: str,
    topic: str,
    *,
    events: int = workload.EVENTS,
    keys: int = workload.KEYS,
    partitions: int = workload.PARTITIONS,
    seed: int = workload.SEED,
) -> float:
    """Make `topic` and append the workload's readings: uncompressed, in order, by murmur2 of the sensor's name.

    Args:
        bootstrap: `host:port` of the broker.
        topic: Made if it is missing; what it holds already stays.
        events: How many readings.
        keys: How many sensors.
        partitions: Of the topic, if it is made.
        seed: Of the readings.

    Returns:
        Seconds that it took.
    """
    began = time.perf_counter()
    # The readings' times lie in the past: by default a broker would soon delete them.
    await ensure_topics(KafkaConnection("", bootstrap), {topic: partitions}, configs={"retention.ms": "-1"})
    names = [workload.sensor_name(number).encode() for number in range(keys)]
    encode = msgspec.json.encode
    rows = ((names[number], encode(reading), reading.time) for number, reading in workload.readings(events, keys, seed))
    await append(bootstrap, topic, rows, partitions=partitions)
    return time.perf_counter() - began


async def append(bootstrap: str, topic: str, rows: Iterable[tuple[bytes, bytes, int]], *, partitions: int) -> None:
    """Append records to a topic that is there: uncompressed, in order, each where murmur2 of its key says.

    Args:
        bootstrap: `host:port` of the broker.
        topic: Its name.
        rows: Key, value, and milliseconds of each.
        partitions: Of the topic.
    """
    homes: dict[bytes, int] = {}
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=_BATCH_BYTES) as producer:
        filling = [producer.create_batch() for _ in range(partitions)]
        sent: list[Any] = []
        for key, value, timestamp in rows:
            home = homes.get(key)
            if home is None:
                home = homes[key] = partition_of.__wrapped__(key, partitions)
            while filling[home].append(key=key, value=value, timestamp=timestamp) is None:
                sent.append(await producer.send_batch(filling[home], topic, partition=home))
                filling[home] = producer.create_batch()
                if len(sent) >= _BATCHES_AT_ONCE:
                    await asyncio.gather(*sent)
                    sent.clear()
        for home, batch in enumerate(filling):
            if batch.record_count():
                sent.append(await producer.send_batch(batch, topic, partition=home))
        await asyncio.gather(*sent)


def main() -> None:
    """Fill a topic from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="readings")
    parser.add_argument("--alerts", help="an empty topic to make beside it")
    parser.add_argument("--events", type=int, default=workload.EVENTS)
    parser.add_argument("--keys", type=int, default=workload.KEYS)
    parser.add_argument("--partitions", type=int, default=workload.PARTITIONS)
    asked = parser.parse_args()

    async def fill() -> float:
        if asked.alerts:
            await ensure_topics(KafkaConnection("", asked.bootstrap), {asked.alerts: asked.partitions})
        return await preload(
            asked.bootstrap, asked.topic, events=asked.events, keys=asked.keys, partitions=asked.partitions
        )

    seconds = asyncio.run(fill())
    print(f"{asked.events} readings of {asked.keys} sensors in {asked.topic}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
