"""From data that a test sends to the record that a producer would write: by the source's format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from headrace.sources.cloudevents import binary, written_time
from headrace.sources.own_formats import KafkaRecord
from headrace.sources.packing import PLAIN, KafkaPacker
from headrace.workflows.actions import Tombstone
from headrace.workflows.packing import Emission, Message
from headrace.workflows.plan import Codec, SourcePlan
from headrace.workflows.records import Headers

READY: Final = b"\0headrace.testing\0"
"""Begins a value that no decoder has to read: JSON of the source's type follows."""


def written(source: SourcePlan, codec: Codec, data: Any, *, id: str, time_ms: int) -> tuple[bytes | None, Headers]:
    """Value and headers of the record of `data`.

    Args:
        source: Where it is sent to.
        codec: Of the source's type.
        data: What is sent.
        id: Of the CloudEvent, where the source reads such.
        time_ms: The same.
    """
    port = source.source
    if isinstance(data, Tombstone):
        return None, ()
    if port.kind != "kafka":
        return codec.encode(data), ()
    if port.decoder is not None:
        return READY + codec.encode(data), ()
    match port.format:
        case "msgpack":
            return msgspec.msgpack.encode(data), ()
        case "raw":
            return _raw(data), ()
        case "cloudevents":
            attributes = {"specversion": "1.0", "id": id, "source": "/headrace/testing", "type": type(data).__name__}
            attributes["time"] = written_time(time_ms)
            kind = PLAIN.get(type(data))
            value = codec.encode(data) if kind is None else _raw(data)
            return value, tuple(binary(attributes, kind or "application/json"))
    return codec.encode(data), ()


class KeepingPacker:
    """Packs for a sink, and remembers the data: what left can be shown as it was returned, whatever its format."""

    def __init__(self, packer: KafkaPacker) -> None:
        self._packer = packer
        self.encoder = packer.encoder
        self.texts: dict[str, bytes] = {}
        """By the message's id: JSON text."""

    def pack(self, emission: Emission) -> Message:
        """See `Packer.pack`."""
        message = self._packer.pack(emission)
        self.texts[emission.id] = emission.text
        return message


def ready_or(decode: Callable[[KafkaRecord], Any], codec: Codec) -> Callable[[KafkaRecord], Any]:
    """A decoder that leaves what `written` made to the codec."""

    def decoded(record: KafkaRecord) -> Any:
        if record.value.startswith(READY):
            return codec.decode(record.value.removeprefix(READY))
        return decode(record)

    return decoded


def _raw(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
