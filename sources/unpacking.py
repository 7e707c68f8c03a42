"""From values in any format to what travels inside: JSON text of the source's type. One unpacker for each source.

Everything behind a source (state, nodes, sinks, replays, other languages' tools) then meets one format. JSON
itself has no unpacker: its values travel as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from headrace.sources.cloudevents import Parsed, data_of, is_json, parse
from headrace.sources.own_formats import Decoder, KafkaRecord, Opened, Unavailable
from headrace.workflows.cloudevents import attributes_of
from headrace.workflows.codec import has_any, json_codec
from headrace.workflows.errors import HeadraceError
from headrace.workflows.intake import EVENT_CAP, milliseconds
from headrace.workflows.records import Headers, Records

_BAD = (msgspec.MsgspecError, HeadraceError, ValueError, TypeError, RecursionError)


class Unpacker(Opened):
    """Puts the values of one source's records into JSON."""

    waits: ClassVar[bool] = False
    """It runs user code that may wait: call it on a thread."""

    def unpack(self, records: Records) -> Records:
        """The same records, with what came in `original`; those that can't be read are in `faults`.

        Raises:
            Unavailable: Not now; nothing has been done.
        """
        raise NotImplementedError


class ValueUnpacker(Unpacker):
    """Of a format in which the value alone says everything: msgpack, raw bytes, text.

    Args:
        decode: Value to data.
        data_type: Of the data.
    """

    def __init__(self, decode: Callable[[bytes], Any], data_type: Any) -> None:
        self._decode = decode
        codec = json_codec(data_type)
        self._encode = codec.encode
        # Where the type says `Any`, JSON keeps less than other formats: then only what comes back from it counts.
        self._decode_json = codec.decode if has_any(data_type) else None

    def unpack(self, records: Records) -> Records:
        """See `Unpacker.unpack`."""
        values: list[Any] = records.values
        decode, encode, again = self._decode, self._encode, self._decode_json
        if None not in values and max(map(len, values), default=0) <= EVENT_CAP:
            try:
                data: list[Any] = [decode(value) for value in values]
                texts: list[bytes | None] = [encode(item) for item in data]
                if again is not None:
                    data = [again(text) for text in texts]  # type: ignore[arg-type]
            except _BAD:
                pass  # one of them is bad: one by one
            else:
                return replace(records, original=records, values=texts, data=data)
        return _one_by_one(records, self._one)

    def _one(self, value: bytes, _: int) -> tuple[bytes, Any]:
        data = self._decode(value)
        text = self._encode(data)
        return text, data if self._decode_json is None else self._decode_json(text)


class DecoderUnpacker(Unpacker):
    """Of a user's decoder."""

    waits: ClassVar[bool] = True

    def __init__(self, decoder: Decoder[Any] | Callable[[KafkaRecord], Any], data_type: Any) -> None:
        self._decoder = decoder if isinstance(decoder, Decoder) else None
        self.decode: Callable[[KafkaRecord], Any] = decoder.decode if isinstance(decoder, Decoder) else decoder
        self._codec = json_codec(data_type)

    async def open(self) -> None:
        """Open the decoder."""
        if self._decoder is not None:
            await self._decoder.open()

    async def close(self) -> None:
        """Close the decoder."""
        if self._decoder is not None:
            await self._decoder.close()

    def unpack(self, records: Records) -> Records:
        """See `Unpacker.unpack`."""
        return _one_by_one(records, lambda value, index: self._one(records, value, index))

    def _one(self, records: Records, value: bytes, index: int) -> tuple[bytes, Any]:
        record = KafkaRecord(
            value=value, key=records.keys[index], headers=dict(records.headers[index]) if records.headers else {},
            topic=records.topic, time_ms=records.times[index],
        )  # fmt: skip
        try:
            decoded = self.decode(record)
        except Unavailable:
            raise
        except Exception as error:
            text = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
            raise ValueError(text) from error
        blob = self._codec.encode(decoded)
        # By what comes back: a decoder may give an instance whose fields are of other types than they say.
        return blob, self._codec.decode(blob)


class CloudEventUnpacker(Unpacker):
    """Of CloudEvents, structured or binary: attributes become headers, the event's time is theirs."""

    def __init__(self, data_type: Any) -> None:
        self._data_type = data_type
        self._encode = json_codec(data_type).encode

    def unpack(self, records: Records) -> Records:
        """See `Unpacker.unpack`."""
        came: Sequence[Headers] = records.headers or ((),) * len(records)
        headers, times = list(came), list(records.times)

        def one(value: bytes, index: int) -> tuple[bytes, Any]:
            parsed = parse(value, came[index])
            attributes = attributes_of(parsed.headers)
            if attributes is None:
                raise ValueError("a CloudEvent without the attribute 'specversion'")
            headers[index] = parsed.headers
            if attributes.time is not None:
                times[index] = milliseconds(attributes.time)
            return self._json(parsed), None

        unpacked = _one_by_one(records, one)
        # Data stay JSON text where they were: decoded where they are used.
        return replace(unpacked, headers=headers, times=times, data=None)

    def _json(self, parsed: Parsed) -> bytes:
        if is_json(parsed, self._data_type):
            return parsed.value
        return self._encode(data_of(parsed, self._data_type))


def _one_by_one(records: Records, one: Callable[[bytes, int], tuple[bytes, Any]]) -> Records:
    """Each record by itself: what can't be read takes no other with it."""
    texts: list[bytes | None] = []
    data: list[Any] = []
    faults = dict(records.faults or {})
    for index, value in enumerate(records.values):
        text, item = None, None
        if value is not None and len(value) <= EVENT_CAP:  # what is larger is refused by its size, unread
            try:
                text, item = one(value, index)
            except Unavailable:
                raise
            except _BAD as error:
                faults[index] = str(error)
        texts.append(text)
        data.append(item)
    return replace(records, original=records, values=texts, data=data, faults=faults or None)
