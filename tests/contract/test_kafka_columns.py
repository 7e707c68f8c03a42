"""What the reader hands over is what aiokafka's own consumer of committed records gives, record for record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.codec import has_lz4, has_snappy, has_zstd

from brokers import Broker, Topics
from kafka_reading import Reading

Row = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]

COMPRESSIONS: dict[str, Callable[[], Any]] = {
    "none": lambda: True,
    "gzip": lambda: True,
    "snappy": has_snappy,
    "lz4": has_lz4,
    "zstd": has_zstd,
}


async def by_consumer(bootstrap: str, topic: str, count: int) -> list[Row]:
    """`count` records through `getmany`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        rows: list[Row] = []
        while len(rows) < count:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                rows += [(r.offset, r.timestamp, r.key, r.value, _filled(r.headers)) for r in records]
        return rows
    finally:
        await consumer.stop()


async def by_reader(bootstrap: str, topic: str, count: int, limit: int) -> list[Row]:
    """The same through the columns of the reader."""
    async with Reading(bootstrap, topic) as reading:
        await reading.assign()
        taken = await reading.take(count, limit=limit)
    return [
        row
        for records in taken
        for row in zip(
            records.offsets,
            records.times,
            records.keys,
            records.values,
            records.headers or [()] * len(records),
            strict=True,
        )
        if isinstance(row[0], int)
    ]


def _filled(headers: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value or b"") for name, value in headers)


async def _write(producer: AIOKafkaProducer, topic: str, numbers: range) -> None:
    for number in numbers:
        await producer.send(
            topic,
            None if number % 5 == 0 else b"value %d" % number,
            key=b"k%d" % (number % 3) if number % 5 == 0 or number % 4 else None,
            headers=[("n", b"%d" % number), ("none", None)] if number % 7 == 0 else [],
            timestamp_ms=1_700_000_000_000 - number,
        )
    await producer.flush()


@pytest.mark.parametrize("limit", [3, 1000])
@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_columns_equal_the_consumers_records(kafka: Broker, topic: Topics, compression: str, limit: int) -> None:
    if not COMPRESSIONS[compression]():
        pytest.skip(f"the library for {compression} is not installed")
    if compression != "none" and not kafka.transactions:
        pytest.skip("this broker is only asked for plain batches")
    name = topic()
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        compression_type=None if compression == "none" else compression,
        linger_ms=5,
        max_batch_size=2000,
    ) as producer:
        await _write(producer, name, range(1, 300))

    assert await by_reader(kafka.bootstrap, name, 299, limit) == await by_consumer(kafka.bootstrap, name, 299)


@pytest.mark.parametrize("limit", [3, 1000])
async def test_aborted_transactions_are_seen_by_neither(kafka: Broker, topic: Topics, limit: int) -> None:
    if not kafka.transactions:
        pytest.skip("this broker has no transactions")
    name = topic()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{name}-writer") as producer:
        for first, commits in ((0, True), (10, False), (20, True), (30, False), (40, True)):
            await producer.begin_transaction()
            await _write(producer, name, range(first + 1, first + 8))
            await (producer.commit_transaction() if commits else producer.abort_transaction())

    rows = await by_reader(kafka.bootstrap, name, 21, limit)

    assert rows == await by_consumer(kafka.bootstrap, name, 21)
    assert [row[1] for row in rows] == [
        1_700_000_000_000 - number for first in (0, 20, 40) for number in range(first + 1, first + 8)
    ]
