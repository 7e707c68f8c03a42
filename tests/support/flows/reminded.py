"""Runs in which something is to fall due, and that end from outside only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from flows import found_in
from headrace import Context, Event, KafkaSink, KafkaSource, Node, Timer, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Remind(Node[Reading, list[float], Reading]):
    """Keeps what comes, and sets a timer each time."""

    def process(self, event: Event[Reading], ctx: Context[list[float]]) -> Reading:
        ctx.state.append(event.data.celsius)
        ctx.set_timer("remind", after=timedelta(minutes=10))
        return event.data

    def on_timer(self, timer: Timer, ctx: Context[list[float]]) -> Reading:
        return Reading(timer.name, float(len(ctx.state)))


@dataclass(frozen=True)
class Reminded:
    workflow: Workflow
    readings: SourceHandle[Reading]
    remind: NodeHandle[Reading, Reading]
    sent: SinkHandle[Reading]


def reminded(unique: str) -> Reminded:
    """Each reading goes on, and a timer is set."""
    workflow = Workflow(f"reminded-{unique}")
    readings = workflow.source(KafkaSource(f"reminded-{unique}", Reading, key="sensor", name="readings"))
    sent = workflow.sink(KafkaSink(f"reminders-{unique}", Reading))
    remind = workflow.node(Remind(), name="remind")
    readings.to(remind)
    remind.to(sent)
    return Reminded(workflow, readings, remind, sent)


__getattr__ = found_in(__name__)
