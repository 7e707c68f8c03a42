"""`workflow.dead_letters.to(sink)`: what could not be processed leaves as other outputs do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    Complete,
    Context,
    DeadLetterMessage,
    Event,
    KafkaSink,
    KafkaSource,
    Reject,
    Retry,
    Workflow,
    WorkflowError,
)
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.commit import DeadLetter
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.letters import texts_of


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float
    note: str = ""


def judge(event: Event[Reading], ctx: Context) -> str | None:
    if event.data.celsius < -273.15:
        raise Reject("colder than cold")
    return None if event.data.celsius < 30 else f"{event.data.sensor} is hot"


class Flow:
    """Readings, a node that fails some, alerts; dead letters go to a topic."""

    def __init__(self, sink: KafkaSink[DeadLetterMessage] | None = None, *, retry: Retry | None = None) -> None:
        self.workflow = workflow = Workflow("heat", partitions=2)
        self.readings: SourceHandle[Reading] = workflow.source(KafkaSource("readings", Reading, key="sensor"))
        node = workflow.node(judge, retry=retry)
        self.alerts: SinkHandle[str] = workflow.sink(KafkaSink("alerts", str))
        self.dead: SinkHandle[DeadLetterMessage] = workflow.sink(sink or KafkaSink("heat-dead", DeadLetterMessage))
        self.readings.to(node)
        node.to(self.alerts)
        workflow.dead_letters.to(self.dead)


COLD = Reading("s1", -300)


def test_a_dead_letter_leaves_with_all_that_is_needed_to_understand_it() -> None:
    flow = Flow()
    with Harness(flow.workflow, start=datetime(2026, 5, 1, tzinfo=UTC)) as harness:
        harness.send(flow.readings, COLD, headers={"traceparent": "00-1", "origin": "lab"})

        (message,) = harness.sent(flow.dead)
        (envelope,) = harness.messages(flow.dead)
        (letter,) = harness.dead_letters

    assert message == DeadLetterMessage(
        workflow="heat", id=letter.id, key="s1", source="readings", node="judge", reason="reject",
        error="colder than cold", time=datetime(2026, 5, 1, tzinfo=UTC), event_time=datetime(2026, 5, 1, tzinfo=UTC),
        type="Reading", data={"sensor": "s1", "celsius": -300.0, "note": ""},
        headers={"traceparent": "00-1", "origin": "lab"},
    )  # fmt: skip
    assert (envelope.id, envelope.key) == (letter.id, "s1")
    assert harness.sent(flow.alerts) == []


def test_what_is_no_json_leaves_as_base64() -> None:
    flow = Flow()
    with Harness(flow.workflow) as harness:
        harness.send_raw(flow.readings, b"\xff\x00", key="s1")

        (message,) = harness.sent(flow.dead)

    assert (message.reason, message.data, message.data_base64, message.node) == ("decode", None, b"\xff\x00", None)


@pytest.mark.parametrize("size", [900, 5_000])
def test_data_that_the_message_has_no_room_for_stay_in_the_store(size: int) -> None:
    flow = Flow(KafkaSink("heat-dead", DeadLetterMessage, max_bytes=2_000))
    with Harness(flow.workflow) as harness:
        harness.send(flow.readings, Reading("s1", -300, "x" * size))

        (message,) = harness.sent(flow.dead)
        (letter,) = harness.dead_letters

    assert letter.data is not None
    assert (message.data is None, message.data_left_out) == ((True, len(letter.data)) if size > 2_000 else (False, 0))


def test_large_headers_and_errors_are_left_out_too() -> None:
    flow = Flow(KafkaSink("heat-dead", DeadLetterMessage, max_bytes=1_500))
    with Harness(flow.workflow) as harness:
        harness.send(flow.readings, COLD, headers={"large": "x" * 5_000})

        (message,) = harness.sent(flow.dead)

    assert (message.headers, message.error) == ({}, "colder than cold")
    assert message.data_left_out > 0


def test_what_another_sink_refuses_leaves_by_this_one() -> None:
    flow = Flow()

    def refuse(message: str) -> None:
        raise Reject("no room for alerts")

    with Harness(flow.workflow, replace={flow.alerts: refuse}) as harness:
        harness.send(flow.readings, Reading("s1", 35))

        (message,) = harness.sent(flow.dead)

    assert (message.reason, message.source, message.error) == ("sink", "alerts", "no room for alerts")


def test_what_this_sink_refuses_stays_and_does_not_go_round() -> None:
    flow = Flow()

    def refuse(message: DeadLetterMessage) -> None:
        raise Reject("not today")

    with Harness(flow.workflow, replace={flow.dead: refuse}) as harness:
        harness.send(flow.readings, COLD)

        assert [(letter.reason, letter.source) for letter in harness.dead_letters] == [
            ("reject", "readings"),
            ("sink", "heat-dead"),
        ]


def test_an_encoder_that_fails_is_named_and_does_not_go_round() -> None:
    def encode(message: DeadLetterMessage) -> bytes:
        raise ValueError("can't write that")

    flow = Flow(KafkaSink("heat-dead", DeadLetterMessage, encoder=encode))
    with Harness(flow.workflow) as harness:
        harness.send(flow.readings, COLD)

        assert {letter.reason for letter in harness.dead_letters} == {"reject", "encode"}
        assert harness.messages(flow.dead) == []


def test_one_that_was_sent_back_and_stops_again_leaves_again_under_its_id() -> None:
    flow = Flow()
    with Harness(flow.workflow) as harness:
        harness.send(flow.readings, COLD)
        harness.advance(timedelta(hours=1))
        harness.replay()

        first, second = harness.sent(flow.dead)

    assert first.id == second.id
    assert second.time - first.time == timedelta(hours=1)


def test_an_event_leaves_after_its_last_attempt_only() -> None:
    flow = Flow(retry=Retry(3))
    with Harness(flow.workflow) as harness:
        harness.send(flow.readings, COLD)
        harness.advance(timedelta(minutes=1))

        assert [message.reason for message in harness.sent(flow.dead)] == ["reject"]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_whatever_dies_each_leaves(point: str) -> None:
    flow = Flow()
    with Harness(flow.workflow) as harness:
        harness.crash_at(point)
        for number in range(3):
            harness.send(flow.readings, Reading(f"s{number}", -300))

        ids = [message.id for message in harness.messages(flow.dead)]
        assert sorted(set(ids)) == sorted(letter.id for letter in harness.dead_letters)
        assert len(harness.dead_letters) == 3


@pytest.mark.parametrize("time", [-1, 0, 1 << 62])
def test_a_record_may_say_any_time(time: int) -> None:
    letter = DeadLetter(id="1", key="", source="s", node=None, reason="decode", error="", time=5, event_time=time)

    whole, *_ = texts_of(letter, "heat")

    assert msgspec.json.decode(whole, type=DeadLetterMessage).event_time is None


def end(event: Event[DeadLetterMessage], ctx: Context) -> Complete:
    return Complete()


def problems(targets: Any) -> Sequence[str]:
    flow = Flow()
    others = {
        "node": flow.workflow.node(end), "complete": Complete, "text": flow.alerts, "twice": flow.dead,
        "string": "heat-dead",
    }  # fmt: skip
    flow.workflow.dead_letters.to(others[targets])  # type: ignore[arg-type]
    with pytest.raises(WorkflowError) as refused:
        flow.workflow.compile()
    return [problem.message for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("node", "are routed to end, which is no sink"),
        ("complete", "are routed to Complete, which is no sink"),
        ("text", "gives DeadLetterMessage, but alerts takes str"),
        ("twice", "are routed twice, first at "),
        ("string", "is routed to 'heat-dead', which is no part of this workflow"),
    ],
)
def test_dead_letters_go_to_sinks_that_take_them(target: str, said: str) -> None:
    assert any(message.startswith(said) for message in problems(target))


def test_they_are_drawn() -> None:
    chart = Flow().workflow.mermaid()

    assert 'letters0(["dead letters"])' in chart
    assert "letters0 --> sink1" in chart
    assert "dead letters" not in Workflow("other").mermaid()
