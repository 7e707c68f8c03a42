"""Spans on their way out of a process: as a receiver gets them, or does not, and as node code sees its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.testing import capture_logs

from headrace import Context, Event
from headrace.tracing import exporting
from headrace.tracing.current import scope
from headrace.tracing.encoding import constant, event, request, span
from headrace.tracing.exporting import Export, Lot, open_export
from headrace.tracing.options import Tracing
from headrace.tracing.processes import ProcessTraces
from headrace.workflows.runner import UnitRunner
from headrace.workflows.tracing import traceparent
from otlp import CONSUMER, INTERNAL, PRODUCER, Receiver, plain, tree
from traced import SAMPLED, SPAN, TRACE, Heat, Reading, World, plan_of, records, sampled


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean stop waits for what has to leave, however busy the machine is."""
    monkeypatch.setattr(exporting, "FLUSH", 60.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def exported(receiver: Receiver, world: World, *, keys: bool = False) -> ProcessTraces:
    """Make a world's traces leave for the receiver."""
    tracing = Tracing(endpoint=f"{receiver.address}/v1/traces", keys=keys, resource={"team": "a"})
    traces = ProcessTraces(tracing, world.plan, "worker/0", "life")
    world.core.tracer = traces.tracer
    world.runners = {unit.index: UnitRunner(world.plan, unit.index, scope=traces.scope) for unit in world.plan.units}
    return traces


def test_a_receiver_gets_the_tree_in_the_words_of_messaging(receiver: Receiver) -> None:
    world = World(plan_of())
    traces = exported(receiver, world)

    world.process(records((40, sampled(SAMPLED, ("tracestate", b"vendor=1"))), (41, ())))
    traces.close()

    spans = {span.name: span for span in receiver.spans}
    assert tree(receiver.spans) == {
        "": ["process readings"],
        "process readings": ["classify"],
        "classify": ["alert"],
        "alert": ["send alerts", "send alerts", "send log", "send log"],
    }
    consumed, classified, sent = spans["process readings"], spans["classify"], spans["send alerts"]
    assert {span.trace_id for span in receiver.spans} == {TRACE.hex()}
    assert {span.state for span in receiver.spans} == {"vendor=1"}
    assert (consumed.kind, classified.kind, sent.kind) == (CONSUMER, INTERNAL, PRODUCER)
    assert consumed.parent == SPAN.hex()
    assert consumed.attributes == {
        "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "readings", "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0, "messaging.message.id": "readings/0@id/0", "headrace.workflow": "heat",
        "headrace.source": "readings",
    }  # fmt: skip
    assert classified.attributes == {
        "headrace.workflow": "heat", "headrace.node": "classify", "headrace.event.id": "readings/0@id/0",
        "headrace.action": "HIGH", "headrace.outcome": "ok", "headrace.hop": 1, "headrace.attempt": 1,
        "headrace.process": "classify/0",
    }  # fmt: skip
    assert sent.attributes["messaging.destination.name"] == "alerts"
    assert (sent.resource["service.name"], sent.resource["team"]) == ("heat", "a")
    assert sent.resource["service.instance.id"] == "heat/worker/0"
    assert sent.traceparent in {world.header(output).decode() for output in world.outputs if output.headers}
    assert traces.counters() == {"exported": 7, "dropped": 0}


def test_keys_of_runs_are_in_it_only_if_asked_for(receiver: Receiver) -> None:
    world = World(plan_of())
    traces = exported(receiver, world, keys=True)

    world.process(records((40, sampled())))
    traces.close()

    assert {span.attributes["headrace.run.key"] for span in receiver.spans} == {"s1"}


def test_what_a_node_raises_is_recorded(receiver: Receiver) -> None:
    world = World(plan_of())
    traces = exported(receiver, world)

    world.process(records((5000, sampled())))
    traces.close()

    spans = {span.name: span for span in receiver.spans}
    failed, consumed = spans["classify"], spans["process readings"]
    assert failed.error == consumed.error == "ValueError: melted"
    assert failed.attributes["headrace.outcome"] == failed.attributes["error.type"] == "error"
    exception = failed.events["exception"]
    assert (exception["exception.type"], exception["exception.message"]) == ("ValueError", "melted")
    assert "in classify" in exception["exception.stacktrace"]


def test_a_node_sees_its_span_and_what_it_sets_there_or_begins_below_is_exported(receiver: Receiver) -> None:
    seen: list[Any] = []

    async def classify(event: Event[Reading], ctx: Context) -> Heat:
        span = trace.get_current_span()
        seen.append(span.get_span_context())
        span.set_attributes({"model": "m1", "score": 0.5, "tags": ["a", "b"], "not": cast(Any, object())})
        with trace.get_tracer("mine").start_as_current_span("lookup"):
            return Heat.NORMAL

    world = World(plan_of(first=classify))
    traces = exported(receiver, world)

    world.process(records((1, sampled(SAMPLED, ("tracestate", b"v=1"))), (1, ())))
    traces.close()

    spans = {span.name: span for span in receiver.spans}
    traced, untraced = seen
    assert (
        traceparent(traced.trace_id.to_bytes(16), traced.span_id.to_bytes(8)).decode() == spans["classify"].traceparent
    )
    assert traced.trace_state.get("v") == "1"
    assert not untraced.is_valid, "an event that is not traced has no span"
    assert spans["lookup"].parent == spans["classify"].span_id
    assert {name: spans["classify"].attributes[name] for name in ("model", "score")} == {"model": "m1", "score": 0.5}
    assert "tags" in spans["classify"].attributes
    assert "not" not in spans["classify"].attributes


def test_a_node_s_span_is_current_only_in_its_call() -> None:
    with scope(TRACE, SPAN, ()) as attributes:
        trace.get_current_span().set_attribute("a", 1)
        assert trace.get_current_span().get_span_context().span_id == int.from_bytes(SPAN)

    assert attributes == {"a": 1}
    assert not trace.get_current_span().get_span_context().is_valid


class Stuck:
    """Takes no spans until it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.began = threading.Event()
        self.answer = ""

    def send(self, data: bytes) -> str:
        self.began.set()
        self.may.wait(30)
        return self.answer

    def stop(self) -> None:
        self.may.set()

    def close(self) -> None:
        self.may.set()


def test_a_full_queue_drops_and_counts_and_nobody_waits() -> None:
    exporter = Stuck()
    export = Export(exporter, limit=10)
    export.put(Lot(1, bytes))
    flushing = threading.Thread(target=export.force_flush)
    flushing.start()
    exporter.began.wait(10)

    for _ in range(25):
        export.put(Lot(1, bytes))

    assert export.dropped == 16, "ten may wait, with the one that is on its way"
    exporter.may.set()
    flushing.join(10)
    export.shutdown()
    assert (export.exported, export.dropped) == (10, 16)


def test_who_stops_does_not_wait_for_a_receiver_that_is_away() -> None:
    exporter = Stuck()
    exporter.answer = "away"
    export = Export(exporter)
    export.put(Lot(1, bytes))
    exporter.may.set()
    assert export.force_flush()
    exporter.may.clear()

    export.put(Lot(1, bytes))
    export.flush()

    assert not exporter.may.is_set(), "it has returned although nothing was taken"
    exporter.may.set()
    export.shutdown()
    assert export.dropped == 2


def test_a_receiver_that_is_away_is_told_once_each_time(receiver: Receiver) -> None:
    receiver.answer = 400
    export = open_export(Tracing(endpoint=f"{receiver.address}/v1/traces"))

    with capture_logs() as said:
        for answer in (400, 400, 400, 200, 400):
            receiver.answer = answer
            export.put(_one_span())
            export.force_flush(10_000)
        export.shutdown()

    warnings = [row for row in said if row["event"] == "traces_not_exported"]
    assert len(warnings) == 2, "once, and once more after it was back"
    assert "400" in warnings[0]["reason"]
    assert (export.exported, export.dropped) == (1, 4)


def _one_span() -> Lot:
    one = span((TRACE, SPAN, b""), (1, 2), constant("one", INTERNAL, {}), {})
    return Lot(1, lambda: request({}, "test", [one]))


def test_secrets_for_the_receiver_are_looked_up_where_they_are_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_HEADERS", "api-key=s3cret,x=a%20b")
    tracing = Tracing(endpoint=f"{receiver.address}/v1/traces", headers="env:MY_HEADERS", compression="gzip")
    export = open_export(tracing)

    export.put(_one_span())
    export.shutdown()

    [headers] = receiver.requests
    assert (headers["api-key"], headers["x"], headers["Content-Encoding"]) == ("s3cret", "a b", "gzip")


TEXTS = st.text(max_size=20)
VALUES = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.lists(TEXTS, max_size=3),
)


@given(
    name=TEXTS, values=st.dictionaries(TEXTS, VALUES, max_size=4), error=st.none() | TEXTS,
    times=st.tuples(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1)),
)  # fmt: skip
def test_what_is_written_directly_is_what_opentelemetry_s_classes_read(
    name: str, values: dict[str, Any], error: str | None, times: tuple[int, int]
) -> None:
    raised = event("exception", times[0], values)
    written = span(
        (TRACE, SPAN, SPAN), times, constant(name, PRODUCER, values), values, state=b"a=1", remote=True, error=error,
        event=raised,
    )  # fmt: skip

    [group] = ExportTraceServiceRequest.FromString(request(values, "scope", [written])).resource_spans

    assert plain(group.resource.attributes) == values
    [scoped] = group.scope_spans
    [read] = scoped.spans
    assert (scoped.scope.name, read.name, read.kind, read.flags) == ("scope", name, PRODUCER, 0x301)
    assert (read.trace_id, read.span_id, read.parent_span_id, read.trace_state) == (TRACE, SPAN, SPAN, "a=1")
    assert (read.start_time_unix_nano, read.end_time_unix_nano) == (times[0], max(times))
    assert [row.key for row in read.attributes] == [*values, *values]
    assert plain(read.attributes) == values
    [happened] = read.events
    assert (happened.name, happened.time_unix_nano, plain(happened.attributes)) == ("exception", times[0], values)
    assert (read.status.code, read.status.message) == ((0, "") if error is None else (2, error))
