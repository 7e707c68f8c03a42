"""G2: each dead letter arrives in its topic once, whatever dies between its commit and there."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from committed import committed_records
from headrace import DeadLetterMessage
from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.workflows.commit import DeadLetter
from ledger import write_flow
from solo import solo
from waiting import until

COUNT = 40
VALUES = [b"%d" % number for number in range(COUNT)] + [b"\xff\x00", b'{"no": "number"}']
LETTERS = COUNT // 2 + 2


@dataclass
class Deployed:
    """The workflow `buried`, deployed and not started."""

    deployment: Deployment


async def fill(bootstrap: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number, value in enumerate(VALUES):
            await producer.send(topic, value, key=b"k%d" % (number % 5))


def stored(url: str) -> tuple[dict[str, DeadLetter], int]:
    """Dead letters by id; and how many commits have outputs that have not left."""

    async def look() -> tuple[dict[str, DeadLetter], int]:
        async with Store(url, "buried", connections=1) as store:
            letters = {letter.id: letter for number in range(2) for _, letter in await store.dead_letters(number)}
            return letters, sum([len(await store.outbox(number, 0, 1000)) for number in range(2)])

    return asyncio.run(look())


@pytest.mark.parametrize("point", ["after:commit", "after:relay-send"])
def test_G02_each_dead_letter_arrives_once(
    kafka: Broker, topic: Topics, redis_url: str, tmp_path: Path, point: str
) -> None:
    numbers, halves, buried = topic(2, name="numbers"), topic(1, name="halves"), topic(2, name="buried")
    asyncio.run(fill(kafka.bootstrap, numbers))
    flow = write_flow(tmp_path, numbers, halves, name="buried")
    flow.write_text(flow.read_text().replace("BURIED", buried))
    code, workflow = load_workflow(flow.name, tmp_path)
    options = {"kafka": {"bootstrap_servers": kafka.bootstrap}, "incarnation": uuid.uuid4().hex}  # no old markers
    deployed = Deployed(deployment_of(workflow.compile(fuse="all"), code, redis_url, fuse=True, **options))

    with solo(deployed, index=0, placement=1, partitions=(0, 1), crash_at=point) as one:
        until(lambda: one.crashed, f"it has crashed at {point}")
    with solo(deployed, index=1, placement=2, partitions=(0, 1)):
        until(lambda: [len(stored(redis_url)[0]), stored(redis_url)[1]] == [LETTERS, 0], "all has left", within=60)

    records = asyncio.run(committed_records(kafka.bootstrap, buried))
    messages = [msgspec.json.decode(record.value, type=DeadLetterMessage) for record in records]
    letters, _ = stored(redis_url)
    if kafka.transactions:
        assert len(messages) == LETTERS
    assert len(letters) == LETTERS
    assert {message.id for message in messages} == letters.keys()
    for record, message in zip(records, messages, strict=True):
        letter = letters[message.id]
        assert dict(record.headers)["headrace-id"].decode() == message.id
        assert (record.key.decode(), message.reason, message.error) == (letter.key, letter.reason, letter.error)
        assert letter.data in VALUES
        assert message.data_base64 == letter.data or message.data == msgspec.json.decode(letter.data or b"")
