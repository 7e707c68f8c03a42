"""The Kafka topics of a workflow as others see them: for documents, and for those who send there or read from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from .codec import type_name, without_tombstone
from .schemas import schema_of

if TYPE_CHECKING:
    from .plan import Plan, SinkPlan, SourcePlan

_KAFKA: Final = "kafka"
_MEDIA: Final = {"json": "application/json", "msgpack": "application/msgpack"}
_PLAIN: Final = {bytes: "application/octet-stream", str: "text/plain; charset=utf-8"}
_ENVELOPE: Final = "application/cloudevents+json"


class TopicDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """A topic that a workflow reads from or sends to."""

    action: Literal["receive", "send"]
    name: str
    """Of the source or sink."""
    topic: str = ""
    """Its name; empty: it reads all that match `pattern`."""
    pattern: str = ""
    cluster: str = ""
    """Name of its Kafka cluster; empty: the default one."""
    type: str = ""
    """Name of the class of its data."""
    content_type: str = ""
    """Media type of values; empty: an encoder or decoder of the user's decides."""
    schema: dict[str, Any] | None = None
    """JSON Schema of its data; None: there is none, or values are not as it says."""


def topics_of(plan: Plan) -> tuple[TopicDescriptor, ...]:
    """Topics of the Kafka sources and sinks of a workflow, in the order of its graph."""
    read = (_topic("receive", row, row.source, plan) for row in plan.sources if row.source.kind == _KAFKA)
    sent = (_topic("send", row, row.sink, plan) for row in plan.sinks if row.sink.kind == _KAFKA)
    return (*read, *sent)


def _topic(action: Literal["receive", "send"], row: SourcePlan | SinkPlan, port: Any, plan: Plan) -> TopicDescriptor:
    data_type = without_tombstone(plan.types[row.type].type)
    named = isinstance(port.topic, str)
    media = _media_type(port, data_type)
    return TopicDescriptor(
        action=action,
        name=row.name,
        topic=port.topic if named else "",
        pattern="" if named else port.topic.pattern,
        cluster=port.cluster or "",
        type=type_name(data_type),
        content_type=media,
        schema=schema_of(data_type) if media in (*_MEDIA.values(), _ENVELOPE) else None,
    )


def _media_type(port: Any, data_type: Any) -> str:
    own = getattr(port, "decoder", None) or getattr(port, "encoder", None)
    if own is not None:
        return ""
    if port.format == "raw":
        return _PLAIN.get(data_type, "")
    return _MEDIA.get(port.format, _ENVELOPE) if isinstance(port.format, str) else _ENVELOPE
