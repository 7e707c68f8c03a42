"""MQTT in and out, unkeyed: keeps what it has seen, and says so."""

from __future__ import annotations

import os

import msgspec
from mqtt import MqttSink, MqttSource

from headrace import Context, Event, Workflow


class Reading(msgspec.Struct, frozen=True):
    """Of a sensor."""

    number: int


def keep(event: Event[Reading], ctx: Context[list[int]]) -> Reading:
    """Every one, as often as it comes."""
    ctx.state.append(event.data.number)
    return event.data


PORT = int(os.environ.get("MQTT_PORT", "1883"))
workflow = Workflow("sensors", keyed=False)
readings = workflow.source(MqttSource("plant/+", Reading, port=PORT))
keeping = workflow.node(keep)
seen = workflow.sink(MqttSink("seen", Reading, port=PORT, name="seen"))
readings.to(keeping)
keeping.to(seen)
