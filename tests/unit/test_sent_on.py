"""Events whose key belongs to another partition than the one they arrived at: processed there, once, in order."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import Context, Event, KafkaSink, KafkaSource, RequestSource, Workflow, WorkflowSink, WorkflowSource
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.keyspace import partition_of
from headrace.workflows.store import Sender
from headrace.workflows.transfers import Transfer, encode

PARTITIONS = 4


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: int


class Seen(msgspec.Struct):
    last: list[int] = []


def place(sensor: str, count: int = PARTITIONS) -> int:
    return partition_of(sensor, count)


def ignore(event: Event[Reading], ctx: Context) -> None:
    """Nothing comes of it."""


def readings() -> tuple[Workflow, Any, Any, Any]:
    workflow = Workflow("readings")

    def follow(event: Event[Reading], ctx: Context[Seen]) -> Reading:
        ctx.state.last = [*ctx.state.last, event.data.celsius]
        return event.data

    source = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    node = workflow.node(follow)
    sink = workflow.sink(KafkaSink("seen", Reading))
    source.to(node)
    node.to(sink)
    return workflow, source, node, sink


@pytest.mark.parametrize("arrives", range(PARTITIONS))
def test_an_event_is_processed_where_its_key_belongs_with_the_id_of_where_it_lay(arrives: int) -> None:
    workflow, source, node, sink = readings()
    with Harness(workflow, partitions=PARTITIONS) as harness:
        harness.send(source, Reading("s1", 20), partition=arrives)

        assert harness.runs["s1"].state(node) == Seen([20])
        assert [message.id for message in harness.messages(sink)] == [f"readings/{arrives}/0.0"]
        assert harness.dead_letters == []
        assert harness.remainder(source) == []


def test_events_of_a_key_keep_the_order_of_their_topic_partition() -> None:
    workflow, source, node, _ = readings()
    with Harness(workflow, partitions=PARTITIONS) as harness:
        with harness.batch():
            for number in range(3000):
                harness.send(source, Reading(f"s{number % 7}", number), partition=number % 7 % PARTITIONS)

        for sensor in range(7):
            assert harness.runs[f"s{sensor}"].state(node).last == list(range(sensor, 3000, 7))


def test_a_topic_with_more_partitions_than_the_workflow_is_read_whole() -> None:
    workflow, source, node, _ = readings()
    sensors = [f"s{number}" for number in range(20)]
    with Harness(workflow, partitions=PARTITIONS) as harness:
        for sensor in sensors:
            harness.send(source, Reading(sensor, 1), partition=place(sensor, 6))

        assert all(harness.runs[sensor].state(node) == Seen([1]) for sensor in sensors)
        assert harness.dead_letters == []


class Place(msgspec.Struct, frozen=True):
    sensor: str
    room: str


class Joined(msgspec.Struct):
    room: str = "?"
    celsius: int = 0


def test_two_topics_with_other_numbers_of_partitions_are_joined_by_key() -> None:
    workflow = Workflow("join", partitions=PARTITIONS)

    def join(event: Event[Place | Reading], ctx: Context[Joined]) -> None:
        if isinstance(event.data, Place):
            ctx.state.room = event.data.room
        else:
            ctx.state.celsius = event.data.celsius

    places = workflow.source(KafkaSource("places", Place))
    temperatures = workflow.source(KafkaSource("temperatures", Reading, key=lambda reading: reading.sensor))
    joining = workflow.node(join)
    places.to(joining)
    temperatures.to(joining)
    sensors = [f"s{number}" for number in range(20)]
    with Harness(workflow) as harness:
        for number, sensor in enumerate(sensors):
            harness.send(places, Place(sensor, f"room {number}"), key=sensor, partition=place(sensor, 3))
            harness.send(temperatures, Reading(sensor, number), partition=place(sensor, 10))

        for number, sensor in enumerate(sensors):
            assert harness.runs[sensor].state(joining) == Joined(f"room {number}", number)


def test_headers_and_time_come_along_to_the_dead_letter_of_a_failing_node() -> None:
    workflow = Workflow("failing")

    def fail(event: Event[Reading], ctx: Context) -> None:
        raise ValueError(event.data.celsius)

    source = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    source.to(workflow.node(fail))
    elsewhere = (place("s1") + 1) % PARTITIONS
    with Harness(workflow, partitions=PARTITIONS) as harness:
        harness.send(source, Reading("s1", 20), headers={"trace": b"\xff"}, partition=elsewhere)

        (letter,) = harness.dead_letters
    assert (letter.id, letter.key, letter.source) == (f"readings/{elsewhere}/0", "s1", "readings")
    assert letter.headers == (("trace", b"\xff"),)
    assert msgspec.json.decode(letter.data or b"") == {"sensor": "s1", "celsius": 20}


def test_a_key_that_is_another_one_each_time_becomes_a_dead_letter_and_not_a_loop() -> None:
    other = next(f"s{number}" for number in itertools.count(2) if place(f"s{number}") != place("s1"))
    keys = itertools.cycle(["s1", other])
    workflow = Workflow("fickle")
    source = workflow.source(KafkaSource("readings", Reading, key=lambda reading: next(keys)))
    source.to(workflow.node(ignore))
    with Harness(workflow, partitions=PARTITIONS) as harness:
        harness.send_raw(source, b'{"sensor": "s1", "celsius": 1}', partition=place(other))
        letters = harness.dead_letters

    assert [(letter.reason, letter.node) for letter in letters] == [("key", None)]


@pytest.mark.parametrize("point", [point for point in CRASH_POINTS if "acquire" not in point])
@pytest.mark.parametrize("occurrence", [1, 2, 3])
def test_a_crash_at_any_point_changes_nothing(point: str, occurrence: int) -> None:
    workflow, source, node, sink = readings()
    with Harness(workflow, partitions=PARTITIONS) as harness:
        harness.crash_at(f"{point}:{occurrence}")
        for round_ in range(3):
            with harness.batch():
                for sensor in range(7):
                    harness.send(source, Reading(f"s{sensor}", round_), partition=sensor % PARTITIONS)

        assert harness.crashes == 1
        assert {sensor: harness.runs[f"s{sensor}"].state(node).last for sensor in range(7)} == {
            sensor: [0, 1, 2] for sensor in range(7)
        }
        assert len(harness.sent(sink, unique=True)) == 21


def test_outputs_for_another_workflow_are_seen_as_they_were_sent_and_numbered_once() -> None:
    workflow = Workflow("shop")

    def same(event: Event[Reading], ctx: Context) -> Reading:
        return event.data

    source = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    node = workflow.node(same)
    link = workflow.sink(WorkflowSink("billing", Reading))
    source.to(node)
    node.to(link)
    with Harness(workflow, partitions=1) as harness:
        harness.crash_at("before:outbox-trim:2")
        for celsius in range(3):
            harness.send(source, Reading("s1", celsius))

        assert harness.sent(link, unique=True) == [Reading("s1", 0), Reading("s1", 1), Reading("s1", 2)]
        assert harness.messages(link)[0].key == "s1"
        assert harness._engine.store.head(0).counters["to:billing.reading:"] == 3


@pytest.mark.parametrize(("key", "run"), [(None, "sender"), ("sensor", "s1")])
def test_a_source_of_other_workflows_takes_their_key_or_one_of_the_data(key: str | None, run: str) -> None:
    workflow = Workflow("billing", partitions=PARTITIONS)

    def follow(event: Event[Reading], ctx: Context[Seen]) -> None:
        ctx.state.last = [*ctx.state.last, event.data.celsius]

    source = workflow.source(WorkflowSource(Reading, key=key, name="sent"))
    node = workflow.node(follow)
    source.to(node)
    event = Transfer(-1, 1, 0, "sent", "shop/readings/0/7.0", 0, b"sender", b'{"sensor":"s1","celsius":20}')
    with Harness(workflow) as harness:
        store = harness._engine.store
        sender = Sender("life/shop/0/sink", "shop", 0, store.acquire(0, term=1, placement=1, worker="w").owner, 0)
        store.append_internal(1, sender, 41, [encode(event)], known=False, most=100)
        harness.advance(timedelta(0))

        assert harness.runs[run].state(node) == Seen([20])


def test_an_event_for_a_source_that_is_not_there_is_a_dead_letter() -> None:
    workflow, _, _, _ = readings()
    event = Transfer(1, 1, 0, "gone", "shop/readings/0/7.0", 0, b"s1", b"{}")
    with Harness(workflow, partitions=PARTITIONS) as harness:
        store = harness._engine.store
        sender = Sender("life/shop/0/sink", "shop", 0, store.acquire(0, term=1, placement=1, worker="w").owner, 0)
        store.append_internal(1, sender, 1, [encode(event)], known=True, most=100)
        harness.advance(timedelta(0))

        (letter,) = harness.dead_letters
    assert (letter.id, letter.source, letter.reason) == ("shop/readings/0/7.0", "gone", "source")


def test_only_topics_have_partitions_to_choose() -> None:
    workflow = Workflow("asking")
    asks = workflow.source(RequestSource(Reading))
    asks.to(workflow.node(ignore))
    with Harness(workflow) as harness, pytest.raises(Exception, match="no Kafka topic"):
        harness.send(asks, Reading("s1", 1), key="s1", partition=1)
