"""Positions of a stopped workflow set anew, on real servers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from headrace.actors.backup import StillRunning
from headrace.actors.deployments import put_deployment
from headrace.actors.resets import ResetRefused, plan_reset, reset
from headrace.actors.spec import CodeRef, Deployment, supervisor_name
from headrace.actors.store import Store
from headrace.sources.kafka_log import offset_of
from headrace.workflows.commit import Answer, Commit, DeadLetter, Output
from headrace.workflows.keyspace import audit_key, lease_key
from headrace.workflows.store import PartitionTorn, SourceDescriptor, WorkflowDescriptor

CODE = CodeRef(folder="", module="flow", version="1", bundle=True)


class Place:
    """A stopped workflow of one partition that has read a topic with two topic partitions of ten records each."""

    def __init__(self, store: Store, topic: str, owner: str, middle: datetime) -> None:
        self.store, self.topic, self.owner, self.middle = store, topic, owner, middle

    async def offsets(self) -> dict[str, int]:
        positions = (await self.store.head(0)).positions
        return {origin: offset_of(at) for origin, at in positions.items() if origin.startswith("readings/")}

    async def reset(self, to: Any, *, drop_state: bool = False) -> None:
        plan = await plan_reset(self.store, "w", to, drop_state=drop_state)
        await reset(self.store, plan, who="ada", why="test")


@pytest.fixture
async def place(redis_url: str, kafka: Broker, topic: Topics) -> AsyncIterator[Place]:
    """See `Place`; half of the records are younger than `middle`."""
    name = topic(2, name="readings")
    base = time.time_ns() // 1_000_000 - 100_000
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in range(10):
            for partition in (0, 1):
                await producer.send_and_wait(name, b"{}", partition=partition, timestamp_ms=base + number * 1000)
    async with Store(redis_url, "w") as store:
        sources = (
            SourceDescriptor(kind="kafka", name="readings", topic=name),
            SourceDescriptor(kind="schedule", name="hourly"),
        )
        await store.publish_workflow(WorkflowDescriptor(name="w", partitions=1, sources=sources))
        await put_deployment(
            store,
            Deployment(
                workflow="w", code=CODE, redis_url=redis_url, partitions=1,
                kafka={"bootstrap_servers": kafka.bootstrap},
            ),
        )  # fmt: skip
        owner = (await store.acquire(0, term=await store.next_term("w"), placement=1, worker="w")).owner
        letter = DeadLetter(
            id="d", source="s", key="k", reason="error", error="", node="n", attempts=1, time=1, data=b"{}"
        )
        read = Commit(
            sequence=1, positions={"readings/0": "8", "hourly": "5"}, dead=[letter],
            runs={"a": ["status", "running", "node:n", "{}"]},
        )  # fmt: skip
        await store.commit(0, owner, read)
        yield Place(store, name, owner, datetime.fromtimestamp((base + 4500) / 1000, UTC))


async def test_all_is_read_again_over_the_states_as_they_are(place: Place) -> None:
    plan = await plan_reset(place.store, "w", "earliest")
    assert [(move.origin, move.before, move.after) for move in plan.moves] == [
        ("readings/0", 8, 0),
        ("readings/1", None, 0),
    ]
    assert (plan.again, plan.skipped, plan.left) == (8, 0, ("hourly (schedule)",))
    assert await place.offsets() == {"readings/0": 8}

    await reset(place.store, plan, who="ada", why="to earliest")

    assert await place.offsets() == {"readings/0": 0, "readings/1": 0}
    assert (await place.store.head(0)).positions["hourly"] == "5"
    assert await place.store.run(0, "a")
    told: Any = await place.store.client.xrange(audit_key("w"))
    assert told[-1][1] == {b"what": b"positions reset", b"count": b"2", b"who": b"ada", b"why": b"to earliest"}


async def test_what_was_not_read_is_passed_over(place: Place) -> None:
    assert (await plan_reset(place.store, "w", "latest")).skipped == 2

    await place.reset("latest")

    assert await place.offsets() == {"readings/0": 10, "readings/1": 10}


async def test_reading_begins_at_a_time_or_an_offset(place: Place) -> None:
    await place.reset(place.middle)
    assert await place.offsets() == {"readings/0": 5, "readings/1": 5}

    await place.reset({(place.topic, 1): 7})
    assert await place.offsets() == {"readings/0": 5, "readings/1": 7}


@pytest.mark.parametrize(("number", "offset", "why"), [(0, 11, "has offsets 0 to 10, not 11"), (7, 1, "reads no")])
async def test_an_offset_that_is_not_there_is_refused(place: Place, number: int, offset: int, why: str) -> None:
    with pytest.raises(ResetRefused, match=why):
        await plan_reset(place.store, "w", {(place.topic, number): offset})


async def test_states_go_where_that_is_asked_for_and_the_rest_stays(place: Place) -> None:
    await place.reset("earliest", drop_state=True)

    assert await place.store.run(0, "a") == {}
    assert len(await place.store.dead_letters(0)) == 1
    assert (await place.store.acquire(0, term=9, placement=1, worker="w")).sequence == 1


async def test_states_stay_while_events_are_on_their_way(place: Place) -> None:
    waiting = [Output(0, "o", "k", 1, b"")]
    assert await place.store.commit(0, place.owner, Commit(sequence=2, outputs=waiting)) is Answer.APPLIED

    with pytest.raises(ResetRefused, match="on their way"):
        await plan_reset(place.store, "w", "earliest", drop_state=True)
    await plan_reset(place.store, "w", "earliest")


async def test_an_owner_from_before_is_shut_out(place: Place) -> None:
    await place.reset("earliest")

    assert await place.store.commit(0, place.owner, Commit(sequence=2, positions={"readings/0": "9"})) is Answer.FENCED
    assert (await place.offsets())["readings/0"] == 0


async def test_a_running_workflow_is_not_reset(place: Place) -> None:
    plan = await plan_reset(place.store, "w", "earliest")
    await place.store.client.set(lease_key(supervisor_name("w")), "somebody")

    with pytest.raises(StillRunning):
        await plan_reset(place.store, "w", "earliest")
    with pytest.raises(StillRunning):
        await reset(place.store, plan, who="ada", why="test")
    assert await place.offsets() == {"readings/0": 8}


@pytest.mark.parametrize("broken", ["drop", "finish"])
async def test_a_reset_that_breaks_off_closes_the_partition_until_it_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    from headrace.actors import resets  # noqa: PLC0415

    real = resets._step

    async def breaking(registry: Any, workflow: str, partition: int, step: str, *more: Any) -> None:
        if step == broken:
            raise RuntimeError(step)
        await real(registry, workflow, partition, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(resets, "_step", breaking)
        with pytest.raises(RuntimeError):
            await place.reset("earliest", drop_state=True)
    with pytest.raises(PartitionTorn, match="headrace reset"):
        await place.store.acquire(0, term=9, placement=1, worker="w")

    await place.reset("earliest", drop_state=True)

    assert (await place.store.acquire(0, term=19, placement=1, worker="w")).positions["readings/0"].startswith("0")
    assert await place.store.run(0, "a") == {}


async def test_a_torn_partition_is_not_mended_by_a_reset(place: Place) -> None:
    await place.store.client.hset(place.store.keys(0).head, mapping={"torn": "2", "torn_reason": "half"})  # type: ignore[misc]

    with pytest.raises(ResetRefused, match="torn: half"):
        await place.reset("earliest")
