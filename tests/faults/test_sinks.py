"""G2: each story of exactly-once outputs ends well, and ends badly once the mechanism that it rests on is taken out."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from brokers import Broker, Topics
from committed import read_committed
from headrace.sources.kafka import KafkaSink
from headrace.sources.kafka_cleanup import remove_traces
from headrace.sources.kafka_coordinator import TransactionalProducer
from headrace.sources.kafka_produce import TopicPartition
from headrace.sources.kafka_sink import SinkUnavailable
from headrace.sources.kafka_transactions import KafkaTransactions, Origin
from headrace.sources.outlet import Portion
from headrace.workflows.commit import Output
from headrace.workflows.plan import SinkPlan
from kafka_reading import plain

BEGIN = """
        await producer.open()
        await self._have_markers(session)
        marker = await self._markers.read(session, partition)
"""
OPENED_LATE = """
        await self._have_markers(session)
        marker = await self._markers.read(session, partition)
        await producer.open()
"""
Senders = Callable[[], KafkaTransactions]
Story = Callable[[Senders], Awaitable[None]]


def alter(monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    """Put a mistake into a method of the sender."""
    method = getattr(KafkaTransactions, name)
    source = textwrap.dedent(inspect.getsource(method))
    old, new = (textwrap.indent(textwrap.dedent(text), "    ") if "\n" in text else text for text in (old, new))
    assert source.count(old) == 1, f"bring {old!r} up to date"
    made: dict[str, Any] = {}
    exec(compile(source.replace(old, new), inspect.getfile(method), "exec"), dict(method.__globals__), made)
    monkeypatch.setattr(KafkaTransactions, name, made[name])


def outputs(first: int, last: int) -> list[Output]:
    return [Output(0, f"readings/0@{number}:0", "s1", 1, b"%d" % number) for number in range(first, last + 1)]


async def relay(sender: KafkaTransactions, last: int) -> None:
    """As the relay of a new owner whose outbox still holds everything from the first output to the last."""
    done = await sender.begin(0, last)
    await sender.send({0: Portion(outputs(done + 1, last), last)})


@pytest.fixture
def alerts(topic: Topics) -> str:
    return topic(name="alerts", max_message_bytes="20000")


@pytest.fixture
async def senders(kafka: Broker, alerts: str) -> AsyncIterator[Senders]:
    """Makes the senders of one partition's owners."""
    origin = Origin(alerts, uuid.uuid4().hex, 1)
    made: list[KafkaTransactions] = []

    def make() -> KafkaTransactions:
        sinks = [SinkPlan(0, alerts, KafkaSink(alerts, dict), 0)]
        made.append(KafkaTransactions(sinks, origin, connection=plain(kafka.bootstrap)))
        return made[-1]

    yield make
    for sender in made:
        await sender.close()
    await remove_traces(plain(kafka.bootstrap), alerts)


async def arrived_once(kafka: Broker, topic: str, last: int) -> bool:
    return await read_committed(kafka.bootstrap, topic) == [b"%d" % number for number in range(1, last + 1)]


async def an_owner_dies_before_it_trims_its_outbox(senders: Senders) -> None:
    await relay(senders(), 5)

    await relay(senders(), 8)


async def test_G2_the_next_owner_goes_on_behind_the_marker(kafka: Broker, alerts: str, senders: Senders) -> None:
    await an_owner_dies_before_it_trims_its_outbox(senders)

    assert await arrived_once(kafka, alerts, 8)


async def test_G2_fails_when_the_marker_is_not_read(
    kafka: Broker, alerts: str, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(monkeypatch, "_begin", "await self._markers.read(session, partition)", "0")

    await an_owner_dies_before_it_trims_its_outbox(senders)

    assert not await arrived_once(kafka, alerts, 8)


async def test_G2_fails_when_the_marker_is_not_part_of_the_transaction(
    kafka: Broker, alerts: str, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "shipment.add(self._markers.place(partition), Lane([marker]), session.count(topic))"
    alter(monkeypatch, "_transact", line, "pass")

    await an_owner_dies_before_it_trims_its_outbox(senders)

    assert not await arrived_once(kafka, alerts, 8)


async def an_owner_commits_in_the_moment_in_which_the_next_begins(
    senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie, heir = senders(), senders()
    await relay(zombie, 5)
    reached, go_on = asyncio.Event(), asyncio.Event()
    begin, open_id = TransactionalProducer.begin, TransactionalProducer.open

    async def begin_late(self: TransactionalProducer, places: Iterable[TopicPartition]) -> None:
        reached.set()
        await go_on.wait()
        await begin(self, places)

    async def open_late(self: TransactionalProducer) -> None:
        go_on.set()
        await asyncio.wait([sending])
        await open_id(self)

    monkeypatch.setattr(TransactionalProducer, "begin", begin_late)
    sending = asyncio.create_task(zombie.send({0: Portion(outputs(6, 8), 8)}))
    await reached.wait()
    monkeypatch.setattr(TransactionalProducer, "open", open_late)
    await relay(heir, 9)
    with suppress(SinkUnavailable):
        await sending


async def test_G2_a_commit_that_comes_while_the_next_owner_begins_counts(
    kafka: Broker, alerts: str, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_owner_commits_in_the_moment_in_which_the_next_begins(senders, monkeypatch)

    assert await arrived_once(kafka, alerts, 9)


async def test_G2_fails_when_the_marker_is_read_before_the_id_is_opened(
    kafka: Broker, alerts: str, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(monkeypatch, "_begin", BEGIN, OPENED_LATE)

    await an_owner_commits_in_the_moment_in_which_the_next_begins(senders, monkeypatch)

    assert not await arrived_once(kafka, alerts, 9)


async def an_owner_dies_before_the_dead_letter_of_a_refused_output_is_durable(senders: Senders) -> int:
    owner = senders()
    await owner.begin(0, 0)
    too_large = Output(0, "readings/0@3:0", "s1", 1, bytes(50_000))
    assert await owner.send({0: Portion([*outputs(1, 2), too_large, *outputs(4, 5)], 5)})

    return await senders().begin(0, 5)


async def test_G4_a_refused_output_is_not_marked_as_sent(kafka: Broker, senders: Senders) -> None:
    assert await an_owner_dies_before_the_dead_letter_of_a_refused_output_is_durable(senders) == 0


async def test_G4_fails_when_the_rest_is_committed_at_once(
    kafka: Broker, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(monkeypatch, "_transact", "await producer.end(commit=False)", "await producer.end(commit=True)")

    assert await an_owner_dies_before_the_dead_letter_of_a_refused_output_is_durable(senders) == 5
