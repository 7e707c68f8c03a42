"""Tansu answers for groups in a form that no client reads: that must not keep a workflow from beginning."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from brokers import CACHE
from headrace.embedded import Tansu
from headrace.sources.kafka_group import group_offsets
from headrace.sources.kafka_metadata import ensure_topics
from kafka_reading import Reading, numbered, plain, values, write
from waiting import until_async


async def has_group(bootstrap: str, group: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return any(name == group for name, _ in await admin.list_consumer_groups())
    finally:
        await admin.close()


async def test_a_group_that_can_not_be_read_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.sources.kafka_group._EVERY", 0.05)
    with Tansu(cache=CACHE) as broker:
        await ensure_topics(plain(broker.bootstrap), {"readings": 1})
        await write(broker.bootstrap, "readings", numbered(0, 3))
        async with Reading(broker.bootstrap, "readings", group="headrace-tansu") as before:
            await before.assign()
            await before.take(3)
            before.reader.committed(0, before.positions)
            await until_async(lambda: has_group(broker.bootstrap, "headrace-tansu"), "the broker knows the group")
        assert await group_offsets(plain(broker.bootstrap), "headrace-tansu") == {}

        async with Reading(broker.bootstrap, "readings", group="headrace-tansu") as reading:
            await reading.assign()
            assert values(await reading.take(3)) == numbered(0, 3)
