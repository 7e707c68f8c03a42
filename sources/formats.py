"""The formats that Headrace knows, by name: what reads the values of a source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.sources.kafka import FORMATS
from headrace.sources.own_formats import Decoder, KafkaRecord
from headrace.sources.unpacking import CloudEventUnpacker, DecoderUnpacker, Unpacker, ValueUnpacker
from headrace.workflows.codec import without_tombstone
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan


def unpacker_of(
    name: str, data_type: Any, decoder: Decoder[Any] | Callable[[KafkaRecord], Any] | None
) -> Unpacker | None:
    """What reads a format; None: values travel as they are (JSON).

    Raises:
        HeadraceError: There is no such format; the build has said so before.
    """
    if decoder is not None:
        return DecoderUnpacker(decoder, data_type)
    match name:
        case "json":
            return None
        case "msgpack":
            return ValueUnpacker(msgspec.msgpack.Decoder(data_type).decode, data_type)
        case "raw":
            return ValueUnpacker(bytes.decode if data_type is str else _same, data_type)
        case "cloudevents":
            return CloudEventUnpacker(data_type)
    raise HeadraceError(f"there is no format {name!r}. Formats: {', '.join(FORMATS)}")


def unpackers_of(plan: Plan) -> dict[int, Unpacker]:
    """The unpackers that the sources of a plan need, by the source's index."""
    found: dict[int, Unpacker] = {}
    for row in plan.sources:
        if row.source.kind == "kafka":
            data_type = without_tombstone(plan.types[row.type].type)
            unpacker = unpacker_of(row.source.format, data_type, row.source.decoder)
            if unpacker is not None:
                found[row.index] = unpacker
    return found


def _same(value: bytes) -> bytes:
    return value
