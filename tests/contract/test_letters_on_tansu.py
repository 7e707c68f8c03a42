"""Dead letters to a topic of the smaller broker, which has no transactions: each arrives, with its id as a header."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from brokers import CACHE, Topics
from headrace import DeadLetterMessage
from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.embedded import Tansu
from ledger import write_flow
from solo import solo
from waiting import until

pytestmark = pytest.mark.slow

COUNT = 20
VALUES = [b"%d" % number for number in range(COUNT)] + [b"\xff\x00", b'{"no": "number"}']
LETTERS = COUNT // 2 + 2
PARTITIONS = 2
WITHIN = 60.0


@dataclass
class Deployed:
    """The workflow `buried`, deployed and not started."""

    deployment: Deployment


async def fill(bootstrap: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number, value in enumerate(VALUES):
            await producer.send(topic, value, key=b"k%d" % (number % 5))


async def arrived(bootstrap: str, topic: str) -> dict[str, Any]:
    """Records by the id in their headers, until all are there: this broker does not tell where a topic ends."""
    found: dict[str, Any] = {}
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        async with asyncio.timeout(WITHIN):
            while len(found) < LETTERS:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found |= {dict(record.headers)["headrace-id"].decode(): record for record in records}
    return found


async def stored(url: str) -> dict[str, str]:
    """Reasons of the dead letters that the store has, by id."""
    async with Store(url, "buried", connections=1) as store:
        rows = [row for number in range(PARTITIONS) for row in await store.dead_letters(number)]
    return {letter.id: letter.reason for _, letter in rows}


def test_G04_dead_letters_arrive_in_a_topic_without_transactions_also_after_a_crash(
    redis_url: str, tmp_path: Path
) -> None:
    with Tansu(cache=CACHE) as broker:
        topic = Topics(broker.bootstrap)
        numbers, halves, buried = topic(PARTITIONS, name="numbers"), topic(name="halves"), topic(2, name="buried")
        asyncio.run(fill(broker.bootstrap, numbers))
        flow = write_flow(tmp_path, numbers, halves, name="buried")
        flow.write_text(flow.read_text().replace("BURIED", buried))
        code, workflow = load_workflow(flow.name, tmp_path)
        options = {"kafka": {"bootstrap_servers": broker.bootstrap}, "incarnation": uuid.uuid4().hex}
        deployed = Deployed(deployment_of(workflow.compile(fuse="all"), code, redis_url, fuse=True, **options))

        with solo(deployed, index=0, placement=1, partitions=(0, 1), crash_at="after:commit") as one:
            until(lambda: one.crashed, "it has crashed with dead letters that are committed and have not left")
        with solo(deployed, index=1, placement=2, partitions=(0, 1)):
            found = asyncio.run(arrived(broker.bootstrap, buried))

    messages = [msgspec.json.decode(record.value, type=DeadLetterMessage) for record in found.values()]
    assert {message.id: message.reason for message in messages} == asyncio.run(stored(redis_url))
    assert sorted(message.reason for message in messages) == ["decode"] * 2 + ["reject"] * (COUNT // 2)
