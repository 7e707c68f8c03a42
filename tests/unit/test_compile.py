"""From a workflow to its plan: numbers, targets, units, regions."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from headrace import (
    Action,
    BatchNode,
    Complete,
    Context,
    Event,
    HeadraceError,
    KafkaSink,
    KafkaSource,
    Node,
    Terminate,
    Workflow,
)  # fmt: skip
from headrace.workflows.plan import COMPLETE, SINK, TERMINATE, Plan


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    text: str


class Urgent(Alert, frozen=True):
    level: int = 1


class Stats(msgspec.Struct):
    count: int = 0


class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Classify(Node[Reading, Stats, Heat]):
    def process(self, event: Event[Reading], ctx: Context[Stats]) -> Heat:
        return Heat.NORMAL


def to_alert(event: Event[Reading], ctx: Context) -> Alert:
    return Alert(event.data.sensor)


def same(event: Event[Reading], ctx: Context) -> Reading | None:
    return event.data


async def later(event: Event[Reading], ctx: Context) -> None: ...


class Batch(BatchNode[Reading, None, None]):
    def process(self, events: Sequence[Event[Reading]], ctxs: Sequence[Context]) -> list[None]:
        return [None for _ in events]


def temperature(**options: Any) -> Workflow:
    workflow = Workflow("temperature", **options)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    classify = workflow.node(Classify(), replicas=2)
    alert = workflow.node(to_alert)
    alerts = workflow.sink(KafkaSink("alerts", Alert))
    readings.to(classify)
    classify.on(Heat.HIGH, Heat.CRITICAL).to(alert)
    classify.on(Heat.NORMAL).to(None)
    alert.to(alerts)
    return workflow


def chain(*nodes: Any, **options: Any) -> tuple[Workflow, list[Any]]:
    """A source and nodes that pass readings on, not routed yet."""
    workflow = Workflow("chain", **options)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    handles = [workflow.node(node, name=f"n{number}") for number, node in enumerate(nodes)]
    readings.to(handles[0])
    return workflow, handles


def shape(plan: Plan) -> list[tuple[tuple[int, ...], bool]]:
    """Nodes of each region, and whether it is serial."""
    return [
        (tuple(node for unit in region.units for node in plan.units[unit].nodes), region.serial)
        for region in plan.regions
    ]


def test_the_temperature_graph() -> None:
    plan = temperature().compile()

    classify, alert = plan.nodes
    assert [row.type for row in plan.types] == [Reading, Alert]
    assert plan.sources[0].targets == (0,)
    assert (plan.sources[0].type, plan.sources[0].key) == (0, "sensor")
    assert {action: classify.routes[route] for action, route in classify.actions.items()} == {
        Heat.NORMAL: (),
        Heat.HIGH: (1,),
        Heat.CRITICAL: (1,),
    }
    assert classify.state is not None
    assert classify.state.new() == Stats()
    assert alert.state is None
    assert alert.types == {Alert: 1}
    assert alert.default is not None
    assert alert.routes[alert.default] == (SINK + 0,)
    assert (plan.sinks[0].name, plan.sinks[0].type) == ("alerts", 1)
    assert [(unit.nodes, unit.replicas, unit.in_worker) for unit in plan.units] == [((0,), 2, False), ((1,), 1, False)]
    assert plan.units[0].name(plan) == "classify"
    assert [(region.units, region.serial, region.before) for region in plan.regions] == [
        ((0,), False, frozenset()),
        ((1,), False, frozenset({0})),
    ]
    assert not plan.serial


def test_a_plan_is_made_once_and_again_after_a_change() -> None:
    workflow = temperature()
    plan = workflow.compile()

    assert workflow.compile() is plan
    workflow.source(KafkaSource("more", Reading, key="sensor")).to(None)
    assert len(workflow.compile().sources) == 2


@pytest.mark.parametrize("workflow", [temperature(fuse="all"), temperature()])
def test_fused_all_there_is_one_unit_inside_the_worker(workflow: Workflow) -> None:
    plan = workflow.compile(fuse="all")

    assert [(unit.nodes, unit.replicas, unit.in_worker) for unit in plan.units] == [((0, 1), 1, True)]
    assert plan.unit_of == (0, 0)


def test_fused_nodes_share_a_unit_and_its_resources() -> None:
    workflow = Workflow("fused")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    one = workflow.node(same, name="one", cpus=1, gpus=0.5)
    other = workflow.node(same, name="other", cpus=0.5, resources={"tpu": 1})
    last = workflow.node(later)
    readings.to(one)
    one.to(last)
    last_but_one = other
    readings_too = workflow.source(KafkaSource("more", Reading, key="sensor"))
    readings_too.to(last_but_one)
    other.to(None)
    workflow.fuse(one, last)

    plan = workflow.compile()

    assert [unit.nodes for unit in plan.units] == [(0, 2), (1,)]
    assert plan.unit_of == (0, 1, 0)
    assert plan.units[0].name(plan) == "one+later"
    assert plan.units[0].resources == {"num_cpus": 1, "num_gpus": 0.5}
    assert plan.units[1].resources == {"num_cpus": 0.5, "num_gpus": 0, "tpu": 1}


def test_a_loop_through_two_units_is_a_serial_region_and_inside_one_it_is_not() -> None:
    def looped() -> tuple[Workflow, list[Any]]:
        workflow, (first, second, third) = chain(same, same, later)
        first.to(second)
        second.to(first, third)
        return workflow, [first, second, third]

    apart, _ = looped()
    together, (first, second, _third) = looped()
    together.fuse(first, second)

    assert shape(apart.compile()) == [((0, 1), True), ((2,), False)]
    assert shape(together.compile()) == [((0, 1), False), ((2,), False)]


def test_a_node_that_sends_to_itself_stays_plain() -> None:
    workflow, (node,) = chain(same)
    node.to(node)

    assert shape(workflow.compile()) == [((0,), False)]


def ending(event: Event[Reading], ctx: Context) -> Reading | Terminate:
    return Terminate("enough")


@pytest.mark.parametrize("end", [Complete, Terminate, None])
def test_an_end_by_annotation_or_by_route_makes_the_whole_graph_serial(end: Any) -> None:
    workflow, (first, second) = chain(same if end else ending, same)
    first.to(second)
    second.to(end)

    plan = workflow.compile()

    assert plan.serial
    assert shape(plan) == [((0, 1), True)]
    assert [node.may_end for node in plan.nodes] == ([False, True] if end else [True, False])
    if end is not None:
        assert plan.nodes[1].routes == ((COMPLETE if end is Complete else TERMINATE,),)


def shared(event: Event[Reading], ctx: Context[Stats, Stats]) -> None: ...


def unshared(event: Event[Reading], ctx: Context[None, None]) -> None: ...


def test_shared_state_makes_the_whole_graph_serial() -> None:
    workflow, (first, second, third) = chain(same, shared, unshared, state=Stats)
    first.to(second, third)

    plan = workflow.compile()

    assert plan.serial
    assert plan.run_state is not None
    assert plan.run_state.new() == Stats()
    assert shape(plan) == [((0, 1, 2), True)]
    assert [node.uses_run_state for node in plan.nodes] == [True, True, False]


def test_a_source_may_lead_to_a_sink_or_an_end_without_any_node() -> None:
    workflow = Workflow("copy")
    workflow.source(KafkaSource("one", Reading)).to(workflow.sink(KafkaSink("two", Reading)))
    workflow.source(KafkaSource("three", Reading)).to(Complete)

    plan = workflow.compile()

    assert [source.targets for source in plan.sources] == [(SINK,), (COMPLETE,)]
    assert plan.serial
    assert (plan.units, [region.units for region in plan.regions]) == ((), [()])


def test_data_is_routed_by_its_class_a_base_or_the_rest() -> None:
    def various(event: Event[Reading], ctx: Context) -> Alert | Reading | list[Reading | int]:
        return 3  # type: ignore[return-value]

    workflow, (node,) = chain(various)
    node.on(Urgent).to(Complete)
    node.on(Reading).to(node)
    node.to(None)

    (plan,) = workflow.compile().nodes

    routes = {cls: plan.routes[plan.outputs.get(cls, plan.default)] for cls in plan.types}  # type: ignore[arg-type]
    assert routes == {Alert: (), Urgent: (COMPLETE,), Reading: (0,), int: ()}
    assert [workflow.compile().types[number].type for number in plan.types.values()] == [Alert, Reading, int, Urgent]


def test_kinds_of_nodes() -> None:
    workflow, handles = chain(same, later, Batch(), partial(same))
    first, second, third, fourth = handles
    first.to(second, third, fourth)
    fourth.to(None)

    nodes = workflow.compile().nodes

    assert [node.is_async for node in nodes] == [False, True, False, False]
    assert [node.is_batch for node in nodes] == [False, False, True, False]
    assert [node.instance is not None for node in nodes] == [False, False, True, False]
    assert nodes[0].where.partition("test_compile.py:")[2].isdecimal()


def test_options_of_a_batch_node_reach_the_plan() -> None:
    workflow = Workflow("batch")
    readings = workflow.source(KafkaSource("readings", Reading))
    readings.to(workflow.node(Batch(), batch_size=256, batch_delay=timedelta(milliseconds=5)))

    (node,) = workflow.compile().nodes

    assert (node.name, node.batch_size, node.batch_delay) == ("batch", 256, timedelta(milliseconds=5))


def test_a_workflow_is_never_pickled() -> None:
    with pytest.raises(HeadraceError, match="imported by name"):
        pickle.dumps(temperature())
