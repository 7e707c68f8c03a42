"""What a deployment says of a plan: units with actors of their own, topics, states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from headrace.actors.spec import UnitSpec
from headrace.workflows.plan import Plan, UnitPlan
from headrace.workflows.runs import SHARED_FIELD


def units_of(plan: Plan) -> tuple[UnitSpec, ...]:
    """The units of a plan that get actors of their own."""
    return tuple(
        UnitSpec(index=unit.index, name=unit.name(plan), replicas=unit.replicas, resources=_asked(unit))
        for unit in plan.units
        if not unit.in_worker
    )


def resized(plan: Plan, units: Sequence[UnitSpec]) -> Plan:
    """The plan with as many replicas of each unit as the deployment says, whatever the code does."""
    replicas = {unit.index: unit.replicas for unit in units}
    made = [dataclasses.replace(unit, replicas=replicas.get(unit.index, unit.replicas)) for unit in plan.units]
    return dataclasses.replace(plan, units=tuple(made))


def _asked(unit: UnitPlan) -> dict[str, float]:
    """Resources that are more than nothing: a unit without any can run in any spare."""
    return {name: amount for name, amount in unit.resources.items() if amount}


def topics_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Kafka cluster ("": the default one) -> names of the topics there that the workflow reads or writes."""
    ports: list[Any] = [row.source for row in plan.sources] + [row.sink for row in plan.sinks]
    found: dict[str, set[str]] = {}
    for port in ports:
        if port.kind == "kafka" and getattr(port, "topic", None):
            found.setdefault(port.cluster or "", set()).add(port.topic)
    return {cluster: tuple(sorted(topics)) for cluster, topics in sorted(found.items())}


def states_of(plan: Plan) -> tuple[str, ...]:
    """Fields of a run's hash that hold states of this workflow."""
    shared = () if plan.run_state is None else (SHARED_FIELD,)
    return (*(f"node:{node.name}" for node in plan.nodes if node.state is not None), *shared)
