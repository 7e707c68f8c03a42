"""Events whose key belongs to another partition than the one they arrived at: processed there, once, in order."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from headrace import Context, Event, KafkaSink, KafkaSource, RequestSource, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.keyspace import partition_of

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


def test_only_topics_have_partitions_to_choose() -> None:
    workflow = Workflow("asking")
    asks = workflow.source(RequestSource(Reading))
    asks.to(workflow.node(ignore))
    with Harness(workflow) as harness, pytest.raises(Exception, match="no Kafka topic"):
        harness.send(asks, Reading("s1", 1), key="s1", partition=1)
