"""Workflows that are refused when they are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows import found_in
from headrace import Action, ChannelSource, Context, Event, Terminate, Workflow


class Heat(Action):
    HIGH = "high"


def classify(event: Event[float], ctx: Context) -> Heat:
    return Heat.HIGH


def handle(event: Event[float], ctx: Context) -> None:
    return None


@dataclass(frozen=True)
class Wrong:
    workflow: Workflow


def _workflow(unique: str) -> tuple[Workflow, Any, Any]:
    workflow = Workflow(f"wrong-{unique}", keyed=False)
    readings = workflow.source(ChannelSource(float, capacity=10, name="readings"))
    classifying, handling = workflow.node(classify), workflow.node(handle)
    readings.to(classifying)
    classifying.on(Heat.HIGH).to(handling)
    return workflow, classifying, handling


def route_after_the_end(unique: str) -> Wrong:
    workflow, classifying, handling = _workflow(unique)
    classifying.on(Terminate).to(handling)
    return Wrong(workflow)


def node_without_source(unique: str) -> Wrong:
    workflow, _, _ = _workflow(unique)
    workflow.node(handle, name="lonely")
    return Wrong(workflow)


def route_to_unknown(unique: str) -> Wrong:
    workflow = Workflow(f"wrong-{unique}", keyed=False)
    readings = workflow.source(ChannelSource(float, capacity=10, name="readings"))
    classifying = workflow.node(classify)
    elsewhere = Workflow("elsewhere", keyed=False).node(handle, name="stranger")
    readings.to(classifying)
    classifying.on(Heat.HIGH).to(elsewhere)
    return Wrong(workflow)


def routed_twice(unique: str) -> Wrong:
    workflow, classifying, handling = _workflow(unique)
    classifying.on(Heat.HIGH).to(handling)
    return Wrong(workflow)


def fan_out(unique: str) -> Wrong:
    """Not wrong: the same action to two nodes, declared as such."""
    workflow = Workflow(f"right-{unique}", keyed=False)
    readings = workflow.source(ChannelSource(float, capacity=10, name="readings"))
    classifying = workflow.node(classify)
    readings.to(classifying)
    classifying.on(Heat.HIGH).to(workflow.node(handle, name="one"), workflow.node(handle, name="two"))
    return Wrong(workflow)


__getattr__ = found_in(__name__)
