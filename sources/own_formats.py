"""What users write to read and to write formats of their own: decoders, encoders, and what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.errors import HeadraceError

D = TypeVar("D")


class Unavailable(HeadraceError):
    """Raised by a decoder, or by `open` of a decoder or encoder: what it needs can't be reached now, ask again.

    The record is not bad: its partition waits, `headrace status` says why, and it is tried again.

    Attributes:
        what: What can't be reached, and why.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class KafkaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it lies in its topic, for a decoder."""

    value: bytes
    key: bytes | None
    headers: Mapping[str, bytes]
    """Of a repeated name the last one."""
    topic: str
    time_ms: int
    """The record's timestamp, in milliseconds since 1970 UTC."""


class Opened:
    """What has to be opened before it is used, and closed."""

    async def open(self) -> None:
        """Get what it needs (a client, a schema). Called once in each worker, before any event.

        An error keeps the worker from starting; it is named, and tried again.
        """

    async def close(self) -> None:
        """Let go of it; not called when the process is killed."""


class Decoder(Opened, Generic[D]):
    """Reads values of a format that Headrace does not know: `KafkaSource("t", T, decoder=MyDecoder())`.

    An instance lives in the user's module, is imported there by each process, and never pickled. `open`,
    `decode` and `close` run on one thread of each worker, apart from its event loop: they may wait.
    """

    def decode(self, record: KafkaRecord) -> D:
        """The data of one record: an instance of the source's type.

        Called once for each record that is read (again after a crash), in order, so it must not depend on
        anything but the record and what never changes.

        Raises:
            Unavailable: What it needs can't be reached: the partition waits, and the record is tried again.
            Exception: Anything else makes the record a dead letter with reason `decode`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decode method")


class Encoder(Opened, Generic[D]):
    """Writes values of a format that Headrace does not know: `KafkaSink("t", T, encoder=MyEncoder())`.

    An instance lives in the user's module, is imported there by each process, and never pickled.
    """

    def encode(self, data: D) -> bytes:
        """The value of a record. Called in the worker, as a part of the event's processing: it must not wait.

        Data that were encoded once may be encoded again after a crash: equal data, equal bytes.

        Raises:
            Exception: Anything makes the message a dead letter with reason `encode`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode method")
