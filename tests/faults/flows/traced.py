"""Two nodes in processes of their own, the first of which waits while a file `hold` lies beside this one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from opentelemetry import trace

from headrace import Action, Context, Event, KafkaSink, KafkaSource, Workflow

HERE = Path(__file__).parent


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    number: int


class Heat(Action):
    HIGH = "high"


async def classify(event: Event[Reading], ctx: Context) -> Heat:
    trace.get_current_span().set_attribute("number", event.data.number)
    with trace.get_tracer("traced").start_as_current_span("lookup"):
        (HERE / f"began-{event.data.number}").touch()
        while (HERE / "hold").exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.02)
    return Heat.HIGH


def alert(event: Event[Reading], ctx: Context) -> Reading:
    return event.data


workflow = Workflow("traced", partitions=4)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
alerts = workflow.sink(KafkaSink("ALERTS", Reading))
classified, alarmed = workflow.node(classify), workflow.node(alert)
readings.to(classified)
classified.on(Heat.HIGH).to(alarmed)
alarmed.to(alerts)
