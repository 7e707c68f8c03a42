"""Joins two topics by key: names of sensors, and their readings."""

from __future__ import annotations

import msgspec

from headrace import Context, Event, KafkaSource, Workflow


class Name(msgspec.Struct, frozen=True):
    """What a sensor is called."""

    name: str


class Reading(msgspec.Struct, frozen=True):
    """One reading of a sensor."""

    sensor: str
    number: int


class Joined(msgspec.Struct):
    """What is known of a sensor."""

    name: str = ""
    numbers: list[int] = []


def join(event: Event[Name | Reading], ctx: Context[Joined]) -> None:
    """Put both together."""
    if isinstance(event.data, Name):
        ctx.state.name = event.data.name
    else:
        ctx.state.numbers = [*ctx.state.numbers, event.data.number]


workflow = Workflow("joined", partitions=4)
names = workflow.source(KafkaSource("ALERTS", Name))
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
joining = workflow.node(join)
names.to(joining)
readings.to(joining)
