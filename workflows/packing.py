"""How data become a sink's message, where that is not plain JSON under the run's key."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from .records import Headers

TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate", "baggage"})
"""Headers of an event that its outputs carry on, to every sink (W3C Trace Context and Baggage)."""

_OF_A_BATCH: Final = 140
"""A batch's head (61 bytes), lengths, offset and time of its record, and the name of the header with our id."""
_OF_A_HEADER: Final = 8


class Emission(NamedTuple):
    """Data on their way to a sink."""

    id: str
    key: str
    """The run's."""
    time: int
    """Of the event that they come from: milliseconds since 1970 UTC."""
    text: bytes
    """JSON text; `TOMBSTONE` for a tombstone."""
    headers: Headers
    """Of the event that they come from."""


class Message(NamedTuple):
    """What a sink gets."""

    key: str
    value: bytes | None
    headers: Headers


class Packer(Protocol):
    """Makes the messages of one sink. Called in the core: it must not wait."""

    def pack(self, emission: Emission) -> Message:
        """The message; equal emissions give equal messages, as it is made again after a crash.

        Raises:
            Exception: Whatever is wrong makes the emission a dead letter with reason `encode`.
        """
        ...


def traced(headers: Headers) -> Headers:
    """Those that every output carries on."""
    return tuple(row for row in headers if row[0].lower() in TRACE_HEADERS)


def size_of(id_: str, message: Message) -> int:
    """Bytes of a message, at most, as Kafka counts them: with the overhead of a batch of its own, and our id."""
    headers = sum(len(name) + len(value) + _OF_A_HEADER for name, value in message.headers)
    return _OF_A_BATCH + len(id_) + len(message.key.encode()) + len(message.value or b"") + headers
