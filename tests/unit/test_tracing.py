"""Traces in the core: which events are traced, ids that a repeat has again, headers of outputs; what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import BatchNode, Complete, Context, Event, KafkaSink, KafkaSource, Reject, Workflow
from headrace.workflows.commit import Answer
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Headers, Records, Reentry
from headrace.workflows.tracing import Parent, Sampling, Trace, Tracer, parent_in, parent_of, traceparent
from traced import (
    NOW,
    SAMPLED,
    SPAN,
    TRACE,
    UNSAMPLED,
    Alert,
    Heat,
    Reading,
    World,
    classify,
    named,
    plan_of,
    records,
    sampled,
)


async def judge(event: Event[Reading], ctx: Context) -> Heat:
    await asyncio.sleep(0)
    return classify(event, ctx)


class Score(BatchNode[Reading, None, Alert]):
    def process(self, events: Sequence[Event[Reading]], ctxs: Sequence[Context[None, Any]]) -> list[Alert | Reject]:
        return [Reject("cold") if row.data.celsius < 0 else Alert(row.data.sensor) for row in events]


# Headers


def test_a_sampled_traceparent_is_read() -> None:
    assert parent_of(SAMPLED) == Parent(TRACE, SPAN, True)
    assert parent_of(UNSAMPLED) == Parent(TRACE, SPAN, False)
    assert parent_of(SAMPLED[:-2] + b"03") == Parent(TRACE, SPAN, True), "more flags than that of sampling"
    assert parent_in((("TraceParent", SAMPLED), ("a", b"b"))) == Parent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"00", SAMPLED.upper(), SAMPLED + b"\n", SAMPLED + b"-00", SAMPLED[:-1], b"ff" + SAMPLED[2:],
        b"0g" + SAMPLED[2:], b"00-" + b"0" * 32 + SAMPLED[35:], SAMPLED[:36] + b"0" * 16 + b"-01", b" " + SAMPLED,
        SAMPLED.replace(b"-", b"_"), "00-ä".encode("latin-1"), b"\xff" * 55, b"00-" + b"4" * 31 + SAMPLED[35:],
    ],
)  # fmt: skip
def test_a_malformed_traceparent_is_none(value: bytes) -> None:
    assert parent_of(value) is None


def test_a_later_version_may_say_more() -> None:
    assert parent_of(b"cc" + SAMPLED[2:] + b"-what-the-future-brings") == Parent(TRACE, SPAN, True)
    assert parent_of(b"cc" + SAMPLED[2:] + b".what") is None


def test_several_that_differ_are_none() -> None:
    assert parent_in(sampled(SAMPLED, ("traceparent", UNSAMPLED))) is None
    assert parent_in(sampled(SAMPLED, ("traceparent", SAMPLED))) == Parent(TRACE, SPAN, True)


@given(st.binary(max_size=70))
def test_whatever_a_header_has_it_is_read_or_passed_over(value: bytes) -> None:
    parent = parent_of(value)

    assert parent is None or traceparent(parent.trace_id, parent.span_id)[:-2] == b"00" + value[2:53]


# In the core


@pytest.mark.parametrize("fuse", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("first", [classify, judge], ids=["plain", "async"])
def test_a_traced_event_has_a_span_for_each_node_and_output(fuse: bool, first: Any) -> None:
    world = World(plan_of(fuse=fuse, first=first))

    world.process(records((20, ()), (40, sampled()), (41, ())))

    [trace] = world.traces
    assert (trace.trace_id, trace.parent, trace.source, trace.key) == (TRACE, SPAN, "readings", "s1")
    assert trace.event == "readings/0@id/1"
    assert trace.error is None
    [classified], [alarmed] = named(trace, "classify"), named(trace, "alert")
    assert (classified.parent, classified.result, classified.hop) == (trace.span_id, "HIGH", 1)
    assert (alarmed.parent, alarmed.result) == (classified.id, "list")
    assert {span.parent for span in named(trace, "alerts") + named(trace, "log")} == {alarmed.id}
    assert len(named(trace, "alerts")) == len(named(trace, "log")) == 2
    assert trace.start <= min(span.start for span in trace.spans)
    assert len({span.id for span in trace.spans}) == len(trace.spans) == 6


def test_an_output_names_its_own_span_and_those_of_other_events_none() -> None:
    world = World(plan_of())

    world.process(records((40, sampled(SAMPLED, ("tracestate", b"a=1"), ("baggage", b"b=2"))), (41, ())))

    [trace] = world.traces
    by_id = {span.event: span for span in trace.spans if span.kind == "sink"}
    assert len(world.outputs) == 8
    for output in world.outputs:
        if output.id in by_id:
            assert world.header(output) == traceparent(TRACE, by_id[output.id].id)
            assert world.header(output, "tracestate") == b"a=1"
            assert world.header(output, "baggage") == b"b=2"
        else:
            assert output.headers == ()


@pytest.mark.parametrize("value", [UNSAMPLED, b"nonsense", SAMPLED.upper()])
def test_what_is_not_sampled_is_handed_on_as_it_came(value: bytes) -> None:
    world = World(plan_of())

    world.process(records((40, sampled(value, ("tracestate", b"a=1")))))

    assert world.traces == []
    assert {world.header(output) for output in world.outputs} == {value}
    assert {world.header(output, "tracestate") for output in world.outputs} == {b"a=1"}


def test_without_a_tracer_nothing_is_traced_and_calls_are_as_ever() -> None:
    world = World(plan_of())
    world.core = PartitionCore(world.plan, 0, 1, world.store.acquire(0, term=1, placement=1, worker="w"))

    world.process(records((40, sampled())))

    assert [call.traced for call in world.calls] == [None, None]
    assert {world.header(output) for output in world.outputs} == {SAMPLED}


def test_only_calls_with_traced_events_say_so() -> None:
    world = World(plan_of())

    world.process(records((40, ())))
    world.process(records((40, ()), (40, sampled()), first=1))

    assert [call.traced and [index for index, _ in call.traced] for call in world.calls] == [None, None, [1], [1]]


def test_nodes_see_the_headers_as_they_came() -> None:
    seen: list[str] = []

    def classify(event: Event[Reading], ctx: Context) -> Heat:
        seen.append(event.headers["traceparent"])
        return Heat.HIGH

    World(plan_of(first=classify)).process(records((40, sampled())))

    assert seen == [SAMPLED.decode()]


def test_what_was_not_committed_leaves_no_span_and_its_repeat_has_the_same_ids() -> None:
    world = World(plan_of())
    batch = records((40, sampled()), (5000, sampled()))
    world.answer = Answer.FENCED
    world.process(batch)
    assert (world.traces, world.outputs) == ([], [])

    world.answer = None
    world.acquire()
    world.process(batch)
    other = World(plan_of())
    other.process(batch)

    assert [[span.id for span in trace.spans] for trace in world.traces] == [
        [span.id for span in trace.spans] for trace in other.traces
    ]
    assert [output.headers for output in world.outputs] == [output.headers for output in other.outputs]


def test_another_life_of_the_workflow_has_other_spans() -> None:
    found: list[Trace] = []
    for seed in ("heat/one", "heat/two"):
        tracer = Tracer(seed, Sampling(), lambda: 1, found.extend)
        tracer.end(list(tracer.begin(records((40, sampled())), "readings").values()))

    assert found[0].trace_id == found[1].trace_id == TRACE
    assert found[0].span_id != found[1].span_id


def test_a_failure_is_told_by_the_node_and_by_the_event() -> None:
    world = World(plan_of())

    world.process(records((5000, sampled()), (40, ())))

    [trace] = world.traces
    [span] = trace.spans
    assert trace.error == ("error", "ValueError: melted")
    assert span.error is not None
    assert (span.name, span.error.reason, span.result) == ("classify", "error", "")
    assert "melted" in (span.error.traceback or "")
    assert len(world.outputs) == 4, "the other event is not disturbed"


def test_a_record_that_can_not_be_read_is_told_by_the_event() -> None:
    world = World(plan_of(fuse=True))
    batch = records((40, sampled()))
    batch.values[0] = b"{"

    world.process(batch)

    [trace] = world.traces
    assert trace.error is not None
    assert (trace.error[0], trace.spans) == ("decode", [])


def test_batch_nodes_have_the_span_of_their_batch() -> None:
    workflow = Workflow("scores")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    score = workflow.node(Score(), batch_size=8)
    readings.to(score)
    score.to(workflow.sink(KafkaSink("scores", Alert)))
    world = World(workflow.compile())

    world.process(records((1, sampled()), (2, ()), (3, sampled()), (-1, sampled())))

    spans = [named(trace, "score")[0] for trace in world.traces]
    assert len({(span.start, span.end) for span in spans}) == 1
    assert [span.error and span.error.reason for span in spans] == [None, None, "reject"]


def test_outputs_behind_the_end_of_a_run_have_no_span() -> None:
    def last(event: Event[Reading], ctx: Context) -> list[Alert | Complete]:
        return [Alert("kept"), Complete(), Alert("dropped")]

    workflow = Workflow("ends")
    node = workflow.node(last)
    workflow.source(KafkaSource("readings", Reading, key="sensor")).to(node)
    node.to(workflow.sink(KafkaSink("alerts", Alert)))
    world = World(workflow.compile())

    world.process(records((40, sampled())))

    [trace] = world.traces
    assert [span.event for span in named(trace, "alerts")] == [output.id for output in world.outputs]


def test_an_event_of_another_partition_or_workflow_is_traced_by_the_header_that_came_along() -> None:
    workflow = Workflow("next")
    node = workflow.node(noted)
    workflow.source(KafkaSource("alerts", Alert, key="sensor")).to(node)
    node.to(workflow.sink(KafkaSink("seen", Alert)))
    first, second = World(plan_of()), World(workflow.compile())
    first.process(records((40, sampled())))
    output = next(output for output in first.outputs if output.sink == 0)

    second.process(
        Records(0, "alerts/0", [7], [NOW], [b"s1"], [output.data], "8", headers=[output.headers], ids=["a/1"])
    )

    [producer] = [span for span in first.traces[0].spans if span.event == output.id]
    [trace_] = second.traces
    assert (trace_.trace_id, trace_.parent, trace_.event) == (TRACE, producer.id, "a/1")


def noted(event: Event[Alert], ctx: Context) -> Alert:
    return event.data


# Sampling


def picked(sampling: Sampling, count: int = 10_000, headers: Headers = ()) -> set[int]:
    world = Tracer("w", sampling, lambda: 1, lambda _: None)
    return set(world.begin(records(*[(1.0, headers)] * count), "readings"))


def test_by_default_no_trace_begins_here() -> None:
    assert picked(Sampling(), 100) == set()


def test_a_share_of_events_begins_a_trace_and_it_is_the_same_one_each_time() -> None:
    sampling = Sampling(ratio=0.01)

    assert 90 <= len(picked(sampling)) <= 110
    assert picked(sampling) == picked(sampling)
    assert picked(sampling, 100, sampled(UNSAMPLED)) == set(), "the parent has decided"
    assert len(picked(sampling, 100, sampled())) == 100, "the parent has decided"
    assert len(picked(Sampling(ratio=1.0), 100)) == 100


def test_without_regard_to_parents() -> None:
    assert picked(Sampling(False, 0.0), 100, sampled()) == set()
    assert len(picked(Sampling(False, 1.0), 100, sampled(UNSAMPLED))) == 100


def test_a_trace_that_begins_here_is_in_the_outputs_and_takes_no_tracestate_along() -> None:
    world = World(plan_of(), Sampling(ratio=1.0))

    world.process(records((40, (("traceparent", b"nonsense"), ("tracestate", b"a=1"), ("baggage", b"b=2")))))

    [trace] = world.traces
    assert trace.parent is None
    assert {world.header(output)[:35] for output in world.outputs} == {b"00-" + trace.trace_id.hex().encode()}
    assert {tuple(name for name, _ in output.headers) for output in world.outputs} == {("traceparent", "baggage")}


@pytest.mark.parametrize("fuse", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("first", [classify, judge], ids=["plain", "async"])
def test_a_node_that_has_an_event_out_of_line_has_its_span(fuse: bool, first: Any) -> None:
    world = World(plan_of(fuse=fuse, first=first))
    world.process(records((20, ())))

    asked = replace(
        records((41, sampled()), (2000, sampled())), source=-1, unknown="execute/try/classify", keys=[b"s1", b"s1"],
        origin="inbox", ids=["one", "two"], entry=Reentry(node="classify", execute="try"),
    )  # fmt: skip
    world.process(asked)

    assert [(trace.source, trace.key, trace.event) for trace in world.traces] == [
        ("execute/try/classify", "s1", "one"), ("execute/try/classify", "s1", "two"),
    ]  # fmt: skip
    assert [[span.name for span in trace.spans] for trace in world.traces] == [["classify"], ["classify"]]
    assert world.outputs == []
