"""Events: the immutable messages that travel through a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Generic

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.cloudevents import CloudEvent, attributes_of

D_co = TypeVar("D_co", covariant=True)


class Event(msgspec.Struct, Generic[D_co], frozen=True, gc=False):
    """One immutable message.

    Users read `data`, `key`, `id`, `time` and `headers`. The engine makes one per event and hop (a
    struct: made in C, a third of the cost of a class with slots); what is seldom read is computed when
    it is read.
    """

    data: D_co
    """What was sent: an instance of the source's type, or what a node returned."""
    key: str
    """The run it belongs to: a sensor, a session, an order; "" in an unkeyed workflow."""
    origin: str
    """The log it was read from (`readings/3@<topic id>`); "" if the sender chose the id."""
    offset: int | str
    """Its place in that log; the whole id if `origin` is ""."""
    path: tuple[int, ...] = ()
    """Branch numbers on its way from the source's event; () for the source's event itself."""
    time_ms: int = 0
    """When it happened, in milliseconds since 1970 UTC."""
    raw_headers: tuple[tuple[str, bytes], ...] = ()
    """Headers as they came, repeated names included."""

    @property
    def id(self) -> str:
        """Its identity for ever: `(origin, offset)`, and the path of what nodes made from it.

        A repeat after a failure has the same id, so that readers of a sink can tell.
        """
        return id_of(self.origin, self.offset, self.path)

    @property
    def time(self) -> datetime:
        """When it happened: by the data (`time=` of the source), the record's timestamp, or when it was sent.

        Aware, UTC, to the millisecond.
        """
        return datetime.fromtimestamp(self.time_ms / 1000, UTC)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers as text; of a repeated name the last one, of bytes that are no UTF-8 a replacement."""
        return {name: value.decode("utf-8", "replace") for name, value in self.raw_headers}

    @property
    def cloudevent(self) -> CloudEvent | None:
        """Attributes of a CloudEvent (id, source, type, subject ...); None: it did not come as one.

        Raises:
            ValueError: Its headers say that it is one, but one that is required is missing.
        """
        return attributes_of(self.raw_headers)

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, key={self.key!r}, data={self.data!r})"


def id_of(origin: str, offset: int | str, path: tuple[int, ...]) -> str:
    """What `Event.id` is: asked for each output, too, where there is no event any more."""
    if origin and not path:  # the source's event
        return f"{origin}/{offset}"
    if origin and len(path) == 1:  # what one node made
        return f"{origin}/{offset}.{path[0]}"
    return f"{place_of(origin)}{offset}{suffix_of(path)}"


def place_of(origin: str) -> str:
    """What an id begins with, before the offset."""
    return f"{origin}/" if origin else ""


def suffix_of(path: tuple[int, ...]) -> str:
    """What an id ends with, behind the offset."""
    return f".{'.'.join(map(str, path))}" if path else ""
