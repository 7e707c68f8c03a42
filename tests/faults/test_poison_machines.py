"""F7, G10: an event that ends one machine after another, with all that was on its disk, is found as well."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from headrace.actors import death_book
from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.workflows.commit import DeadLetter
from ledger import write_flow
from solo import solo
from waiting import until

COUNT, DEADLY = 40, 13
MOST = death_book.CAREFUL + 3
"""Machines that are used: two have no chance to say anything, two note the event, the last one refuses it."""


@dataclass
class Deployed:
    """The workflow, deployed and not started."""

    deployment: Deployment


async def fill(bootstrap: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(COUNT):
            await producer.send(topic, b"%d" % number, key=b"k%d" % (number % 3))


def look(url: str) -> tuple[list[DeadLetter], list[int]]:
    """Dead letters, and all numbers that were counted."""

    async def read() -> tuple[list[DeadLetter], list[int]]:
        async with Store(url, "deadly_numbers", connections=1) as store:
            letters = [letter for _, letter in await store.dead_letters(0)]
            runs = [await store.run(0, key) for key in await store.run_keys(0)]
        return letters, sorted(number for run in runs for number in msgspec.json.decode(run["node:count"]))

    return asyncio.run(read())


def test_G10_an_event_that_kills_one_machine_after_another_is_a_dead_letter_and_no_other_is(
    kafka: Broker, topic: Topics, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = topic(1, name="numbers")
    asyncio.run(fill(kafka.bootstrap, numbers))
    code, workflow = load_workflow(write_flow(tmp_path, numbers, "", name="deadly_numbers").name, tmp_path)
    options = {"kafka": {"bootstrap_servers": kafka.bootstrap}, "incarnation": uuid.uuid4().hex}
    deployed = Deployed(deployment_of(workflow.compile(fuse="all"), code, redis_url, fuse=True, **options))
    everything = sorted(set(range(COUNT)) - {DEADLY})

    killed = 0
    for machine in range(1, MOST + 1):
        disk = tmp_path / f"machine-{machine}"
        disk.mkdir()
        monkeypatch.setenv("TMPDIR", str(disk))
        with solo(deployed, index=machine, placement=machine, partitions=(0,)) as worker:
            until(
                lambda worker=worker: worker.crashed or len(look(redis_url)[1]) == len(everything),
                "it dies, or all is done",
            )
            killed += worker.crashed
            if not worker.crashed:
                break

    (letter,), counted = look(redis_url)
    assert (letter.reason, letter.data, letter.node) == ("poison", b"%d" % DEADLY, "count")
    assert counted == everything
    assert killed == MOST - 1
