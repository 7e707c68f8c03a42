"""From data to Kafka messages in any format: the counterpart of `unpacking`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from headrace.sources.cloudevents import STRUCTURED, CloudEvents, binary, structured, written_time
from headrace.sources.kafka import KafkaSink
from headrace.sources.own_formats import Encoder
from headrace.workflows.cloudevents import CONTENT_TYPE, PREFIX
from headrace.workflows.codec import json_codec, type_name, without_tombstone
from headrace.workflows.fields import field_getter
from headrace.workflows.packing import Emission, Message, traced
from headrace.workflows.plan import Plan
from headrace.workflows.records import Headers

PLAIN: Final[dict[Any, str]] = {bytes: "application/octet-stream", str: "text/plain; charset=utf-8"}
"""Media types of data that are written as they are, not as JSON."""
_JSON: Final = "application/json"
_OURS: Final = (PREFIX, CONTENT_TYPE, "headrace-")
"""What begins headers that describe one message, and say nothing of what is made from it."""


class KafkaPacker:
    """Makes the messages of one Kafka sink.

    Args:
        sink: Says how.
        workflow: Name of the workflow.
    """

    def __init__(self, sink: KafkaSink[Any], workflow: str) -> None:
        data_type = without_tombstone(sink.type)
        self._decode = json_codec(data_type).decode
        self._key_of = field_getter(sink.key, data_type) if isinstance(sink.key, str) else sink.key
        self._headers = sink.headers
        self.encoder = sink.encoder if isinstance(sink.encoder, Encoder) else None
        self._write = self._writer(sink, data_type, workflow)

    def pack(self, emission: Emission) -> Message:
        """See `Packer.pack`."""
        headers = self._passed(emission.headers)
        if not emission.text:  # a tombstone: all that it says is its key
            return Message(emission.key, None, headers)
        data = self._decode(emission.text)
        key = emission.key if self._key_of is None else self._key(data)
        value, own = self._write(data, emission)
        return Message(key, value, headers + own)

    def _key(self, data: Any) -> str:
        key = self._key_of(data) if self._key_of is not None else None
        if isinstance(key, int) and not isinstance(key, bool):
            return str(key)
        if not isinstance(key, str):
            raise TypeError(f"a key is a str or an int, not {type(key).__name__}")
        return key

    def _passed(self, headers: Headers) -> Headers:
        if self._headers == "all":
            return tuple(row for row in headers if not row[0].lower().startswith(_OURS))
        chosen = tuple(row for row in headers if row[0] in self._headers)
        return traced(headers) + chosen

    def _writer(
        self, sink: KafkaSink[Any], data_type: Any, workflow: str
    ) -> Callable[[Any, Emission], tuple[bytes, Headers]]:
        if sink.encoder is not None:
            encode: Callable[[Any], bytes] = sink.encoder.encode if isinstance(sink.encoder, Encoder) else sink.encoder
            return lambda data, _: (_bytes(encode(data)), ())
        if isinstance(sink.format, CloudEvents) or sink.format == "cloudevents":
            options = sink.format if isinstance(sink.format, CloudEvents) else CloudEvents()
            return _CloudEventWriter(options, data_type, workflow)
        match sink.format:
            case "msgpack":
                return lambda data, _: (msgspec.msgpack.encode(data), ())
            case "raw":
                return lambda data, _: (_raw(data), ())
        return lambda _, emission: (emission.text, ())


class _CloudEventWriter:
    def __init__(self, options: CloudEvents, data_type: Any, workflow: str) -> None:
        self._options = options
        self._media = PLAIN.get(data_type)
        self._source = options.source or f"/headrace/{workflow}"

    def __call__(self, data: Any, emission: Emission) -> tuple[bytes, Headers]:
        attributes = {
            "specversion": "1.0",
            "id": emission.id,
            "source": self._source,
            "type": self._options.type or type_name(type(data)),
            "time": written_time(emission.time),
        }
        if emission.key:
            attributes["subject"] = emission.key
        media = self._media or _JSON
        body = emission.text if self._media is None else _raw(data)
        if self._options.mode == "binary":
            return body, tuple(binary(attributes, media))
        value = structured(attributes, media, body, is_text=self._media is None)
        return value, ((CONTENT_TYPE, f"{STRUCTURED}; charset=UTF-8".encode()),)


def packers_of(plan: Plan) -> dict[int, KafkaPacker]:
    """The packers of a plan's Kafka sinks, by index; one that writes plain JSON under the run's key needs none."""
    return {
        row.index: KafkaPacker(row.sink, plan.name)
        for row in plan.sinks
        if isinstance(row.sink, KafkaSink) and not row.sink.is_plain
    }


def _raw(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"an encoder returns bytes, not {type(value).__name__}")
    return value
