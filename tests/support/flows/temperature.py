"""The workflow `temperature` of the conformance cases: classify, handle, stop at critical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from flows import found_in
from headrace import Action, ChannelSource, Context, Event, KafkaSink, Node, Terminate, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    level: str
    celsius: float


class Heat(Action):
    NORMAL = "normal"
    LOW = "low"
    HIGH = "high"
    CRITICAL = "critical"


class Seen(msgspec.Struct):
    celsius: list[float] = []
    levels: list[str] = []


class Classify(Node[Reading, Seen, Heat]):
    def process(self, event: Event[Reading], ctx: Context[Seen]) -> Heat:
        celsius = event.data.celsius
        heat = Heat.NORMAL
        if celsius >= 30:
            heat = Heat.HIGH
        if celsius <= 10:
            heat = Heat.LOW
        if celsius >= 40:
            heat = Heat.CRITICAL
        ctx.state.celsius.append(celsius)
        ctx.state.levels.append(heat.value)
        return heat


def high(event: Event[Reading], ctx: Context) -> Alert:
    return Alert("high", event.data.celsius)


def low(event: Event[Reading], ctx: Context) -> Alert:
    return Alert("low", event.data.celsius)


def critical(event: Event[Reading], ctx: Context) -> Alert:
    return Alert("critical", event.data.celsius)


def stop(event: Event[Reading], ctx: Context) -> Terminate:
    return Terminate(f"{event.data.celsius:g} is critical")


@dataclass(frozen=True)
class Temperature:
    workflow: Workflow
    readings: SourceHandle[Reading]
    classify: NodeHandle[Any, Any]
    alerts: SinkHandle[Alert]


def temperature(unique: str) -> Temperature:
    """A single run: a critical reading terminates the workflow."""
    return _routed(Workflow(f"temperature-{unique}", keyed=False), unique, key=None)


def temperatures(unique: str) -> Temperature:
    """A run for each sensor."""
    return _routed(Workflow(f"temperatures-{unique}"), unique, key="sensor")


def _routed(workflow: Workflow, unique: str, key: str | None) -> Temperature:
    readings = workflow.source(ChannelSource(Reading, capacity=100, key=key, name="readings"))
    classify = workflow.node(Classify())
    handlers = {heat: workflow.node(node) for heat, node in
                ((Heat.LOW, low), (Heat.HIGH, high), (Heat.CRITICAL, critical))}  # fmt: skip
    alerts = workflow.sink(KafkaSink(f"alerts-{unique}", Alert, name="alerts"))
    readings.to(classify)
    classify.on(Heat.NORMAL).to(None)
    classify.on(Heat.LOW).to(handlers[Heat.LOW])
    classify.on(Heat.HIGH).to(handlers[Heat.HIGH])
    classify.on(Heat.CRITICAL).to(handlers[Heat.CRITICAL], workflow.node(stop))
    for handler in handlers.values():
        handler.to(alerts)
    return Temperature(workflow, readings, classify, alerts)


__getattr__ = found_in(__name__)
