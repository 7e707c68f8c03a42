"""Each reading goes two ways, which meet again: what met is counted, and told once. One way fails now and then."""

from __future__ import annotations

import msgspec

from headrace import Context, Event, Joined, KafkaSink, KafkaSource, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    number: int
    celsius: float


class Size(msgspec.Struct, frozen=True):
    number: int


class Warmth(msgspec.Struct, frozen=True):
    celsius: float


class Met(msgspec.Struct, frozen=True):
    sensor: str
    number: int
    ordinal: int
    whole: bool


class Count(msgspec.Struct):
    met: int = 0


def size(event: Event[Reading], ctx: Context) -> Size:
    return Size(event.data.number)


def warmth(event: Event[Reading], ctx: Context) -> Warmth:
    if event.data.celsius < -273:
        raise ValueError("colder than possible")
    return Warmth(event.data.celsius)


def tell(event: Event[Joined[tuple[Size | None, Warmth | None]]], ctx: Context[Count]) -> Met:
    first, second = event.data.results
    assert first is not None
    ctx.state.met += 1
    return Met(event.key, first.number, ctx.state.met, second is not None)


workflow = Workflow("paired", partitions=4)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
sizing, warming = workflow.node(size), workflow.node(warmth)
both = workflow.join(sizing, warming, name="both")
telling = workflow.node(tell)
told = workflow.sink(KafkaSink("ALERTS", Met))

readings.to(sizing, warming)
both.to(telling)
telling.to(told)
