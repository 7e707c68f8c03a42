"""A unit node by node: the same as event by event."""

from __future__ import annotations

import msgspec
import pytest

from headrace import Action, Complete, Context, Event, KafkaSink, RequestSource, Workflow
from headrace.workflows.calls import Call, CallResult
from headrace.workflows.plan import Plan
from headrace.workflows.runner import UnitRunner


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Mean(msgspec.Struct):
    count: int = 0
    sum: float = 0.0


class Way(Action):
    LEFT = "left"
    RIGHT = "right"
    BOTH = "both"


class Alert(msgspec.Struct):
    """Mutable: each node gets its own."""

    sensor: str
    key: str
    share: float | None = None


def count(event: Event[Reading], ctx: Context[Mean]) -> Way:
    ctx.state.count += 1
    ctx.state.sum += event.data.celsius
    if event.data.celsius < 0:
        raise ValueError("cold")
    if event.data.celsius > 90:
        return Way.BOTH
    return Way.LEFT if event.data.celsius < 50 else Way.RIGHT


def left(event: Event[Reading], ctx: Context[Mean]) -> Alert | None:
    ctx.state.count += 1
    ctx.reply({"left": event.id})
    if event.data.celsius == 13:
        return None
    share = float("nan") if event.data.celsius == 14 else None
    return Alert(event.data.sensor, ctx.idempotency_key, share)


def right(event: Event[Reading], ctx: Context) -> list[Alert]:
    ctx.reply({"right": event.id})
    return [Alert(event.data.sensor, f"{ctx.idempotency_key} {number}") for number in range(2)]


def last(event: Event[Alert], ctx: Context[Mean]) -> Alert:
    ctx.state.count += 1
    event.data.key += " seen"
    ctx.reply({"last": event.id, "count": ctx.state.count})
    return event.data


def diamond() -> Plan:
    """Count -> left or right or both -> last -> sink; what meets at `last` is of both."""
    workflow = Workflow("diamond", partitions=1)
    readings = workflow.source(RequestSource(Reading, key="sensor", name="readings"))
    counting, one, other, end = (workflow.node(function) for function in (count, left, right, last))
    readings.to(counting)
    counting.on(Way.LEFT).to(one)
    counting.on(Way.RIGHT).to(other)
    counting.on(Way.BOTH).to(one, other)
    one.to(end)
    other.to(end)
    end.to(workflow.sink(KafkaSink("alerts", Alert)))
    return workflow.compile(fuse="all")


def call(plan: Plan, celsius: list[float], *, hops: list[int] | None = None) -> Call:
    """Readings of three sensors."""
    count, keys = len(celsius), ["a", "b", "c"]
    return Call(
        partition=0, unit=0, replica=0, number=1, owner="o", now=1_000, keys=keys, numbers=[1, 2, 3], bases=[0, 0, 0],
        states=[None] * 3, shared=None, runs=[index % 3 for index in range(count)], nodes=[0] * count,
        types=[plan.sources[0].type] * count,
        blobs=[msgspec.json.encode(Reading(keys[index % 3], value)) for index, value in enumerate(celsius)],
        origins=["log"], origin_of=[0] * count, offsets=list(range(count)), times=[0] * count, hops=hops,
    )  # fmt: skip


CELSIUS = [20.0, 60.0, 95.0, -1.0, 13.0, 14.0, 99.0, 70.0, 20.0, 91.0, -2.0, 55.0, 13.0, 30.0]


@pytest.mark.parametrize(
    "hops", [None, [0, 3, 97, 98, 99, 0, 1, 97, 99, 0, 0, 98, 0, 0]], ids=["first", "passed-others"]
)
def test_node_by_node_is_the_same_as_event_by_event(hops: list[int] | None) -> None:
    plan = diamond()
    asked = call(plan, CELSIUS, hops=hops)

    expected, found = both_ways(plan, asked)

    assert found == expected
    assert found.failed, "the test has events that fail"
    assert len(found.effects) > len(CELSIUS) / 2


def comparable(result: CallResult) -> CallResult:
    """Without what differs from run to run; dead letters of an event in no order."""
    failed = sorted(
        (msgspec.structs.replace(row, traceback=None) for row in result.failed), key=lambda row: (row.index, row.path)
    )
    sent = sorted(result.sent, key=lambda row: (row.code, row.path))
    return msgspec.structs.replace(result, seconds=0.0, failed=failed, sent=sent)


def both_ways(plan: Plan, asked: Call) -> tuple[CallResult, CallResult]:
    """Results event by event, and in waves."""
    one_by_one, in_waves = UnitRunner(plan, 0), UnitRunner(plan, 0)
    one_by_one._waves = None
    assert in_waves._waves is not None
    return comparable(one_by_one.run(asked)), comparable(in_waves.run(asked))


def test_traced_events_go_singly_between_waves() -> None:
    plan = diamond()
    asked = call(plan, CELSIUS)
    asked.traced = [(0, b"t" * 16 + b"s" * 8), (6, b"u" * 16 + b"s" * 8), (7, b"v" * 16 + b"s" * 8)]

    expected, found = both_ways(plan, asked)

    for result in (expected, found):
        result.hops = [msgspec.structs.replace(hop, start=0, took=0) for hop in result.hops]
    assert found == expected
    assert {hop.index for hop in found.hops} == {0, 6, 7}


def test_chunks_make_no_difference() -> None:
    plan = diamond()

    expected, found = both_ways(plan, call(plan, CELSIUS * 100))

    assert found == expected


def shape(name: str) -> Plan:
    """A graph like that above, with one thing that is different."""
    workflow = Workflow("shape", partitions=1, state=Mean if name == "shared state" else None)
    readings = workflow.source(RequestSource(Reading, key="sensor", name="readings"))
    first, one, other, end = (workflow.node(function) for function in (count, left, right, last))
    readings.to(first)
    if name == "entered in the middle":
        workflow.source(RequestSource(Alert, key="sensor", name="alerts-again")).to(end)
    first.on(Way.LEFT).to(one)
    first.on(Way.RIGHT).to(other)
    first.on(Way.BOTH).to(first if name == "a way back" else Complete if name == "an end" else other)
    one.to(end)
    if name == "a longer way":
        more = workflow.node(again)
        other.to(more)
        more.to(end)
    else:
        other.to(end)
    end.to(workflow.sink(KafkaSink("alerts-out", Alert)))
    return workflow.compile(fuse="all")


def again(event: Event[Alert], ctx: Context) -> Alert:
    return event.data


def test_such_a_graph_goes_node_by_node() -> None:
    assert UnitRunner(shape("as it is"), 0)._waves is not None


@pytest.mark.parametrize("name", ["shared state", "entered in the middle", "a way back", "an end", "a longer way"])
def test_what_depends_on_the_order_of_all_events_goes_event_by_event(name: str) -> None:
    assert UnitRunner(shape(name), 0)._waves is None
