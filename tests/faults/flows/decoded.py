"""Readings as Avro and as Protobuf, and a clock: each keeps what it got."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from headrace import Context, Event, KafkaSource, ScheduleSource, Workflow
from headrace.avro import AvroDecoder
from headrace.protobuf import ProtobufDecoder
from headrace.registry import SchemaRegistry
from reading_messages import ReadingMessage

REGISTRY = SchemaRegistry("http://registry")


class Reading(msgspec.Struct, frozen=True):
    """The fields that both formats have, of those that there are."""

    sensor: str
    number: int


def keep(event: Event[Reading], ctx: Context[list[int]]) -> None:
    """The numbers of a sensor."""
    ctx.state.append(event.data.number)


def tick(event: Event[datetime], ctx: Context[list[int]]) -> None:
    """In milliseconds since 1970 UTC."""
    ctx.state.append(round(event.data.timestamp() * 1000))


workflow = Workflow("decoded", partitions=2)
avro = workflow.source(KafkaSource("avro-topic", Reading, key="sensor", decoder=AvroDecoder(Reading, REGISTRY)))
protobuf = workflow.source(
    KafkaSource("protobuf-topic", Reading, key="sensor", decoder=ProtobufDecoder(Reading, ReadingMessage, REGISTRY))
)
clock = workflow.source(ScheduleSource(every=timedelta(milliseconds=100), run="clock"))
keeping = workflow.node(keep)
ticking = workflow.node(tick)
avro.to(keeping)
protobuf.to(keeping)
clock.to(ticking)
