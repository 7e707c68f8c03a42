"""A source of each format, one node, and a sink that writes msgpack."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from flows import found_in
from headrace import (
    Context,
    Decoder,
    Event,
    KafkaRecord,
    KafkaSink,
    KafkaSource,
    Node,
    Tombstone,
    Workflow,
)
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float = 0.0
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class Seen(msgspec.Struct, frozen=True):
    what: str
    time: datetime
    headers: dict[str, str]


class See(Node[Reading | str | Tombstone, list[Seen], Seen]):
    def process(self, event: Event[Reading | str | Tombstone], ctx: Context[list[Seen]]) -> Seen:
        seen = Seen(repr(event.data), event.time, dict(event.headers))
        ctx.state.append(seen)
        return seen


class Spelled(Decoder[Reading]):
    """`s1 21.5`, once it is open."""

    def __init__(self) -> None:
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    def decode(self, record: KafkaRecord) -> Reading:
        assert self.is_open
        sensor, celsius = record.value.decode().split()
        return Reading(sensor, float(celsius))


@dataclass(frozen=True)
class Formats:
    workflow: Workflow
    packed: SourceHandle[Reading]
    clouds: SourceHandle[Reading]
    words: SourceHandle[str]
    spelled: SourceHandle[Reading]
    latest: SourceHandle[Reading | Tombstone]
    see: NodeHandle[Any, Any]
    out: SinkHandle[Seen]


def formats(unique: str) -> Formats:
    """Five topics in, one out."""
    workflow = Workflow(f"formats-{unique}")
    packed = workflow.source(
        KafkaSource(f"packed-{unique}", Reading, key="sensor", time="at", format="msgpack", name="packed")
    )
    clouds = workflow.source(
        KafkaSource(f"clouds-{unique}", Reading, key="sensor", format="cloudevents", name="clouds")
    )
    words = workflow.source(KafkaSource(f"words-{unique}", str, format="raw", name="words"))
    spelled = workflow.source(
        KafkaSource(f"spelled-{unique}", Reading, key="sensor", decoder=Spelled(), name="spelled")
    )
    latest = workflow.source(
        KafkaSource(f"latest-{unique}", Reading, key="sensor", tombstones="deliver", name="latest")
    )
    see = workflow.node(See())
    out = workflow.sink(KafkaSink(f"out-{unique}", Seen, format="msgpack", name="out"))
    packed.to(see)
    clouds.to(see)
    words.to(see)
    spelled.to(see)
    latest.to(see)
    see.to(out)
    return Formats(workflow, packed, clouds, words, spelled, latest, see, out)


__getattr__ = found_in(__name__)
