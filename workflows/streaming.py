"""Streams of runs, at the node's side: `async with ctx.stream("tokens") as tokens: await tokens.write(word)`.

What is written is seen at once, before the event is committed, so it may have to be taken back. Each attempt of an
event at a node writes under its own token. The commit that takes the event over seals what its attempt has written;
what another attempt has written is cut off, and readers are told.
"""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from .codec import encode_json
from .errors import HeadraceError

if TYPE_CHECKING:
    from .calls import Call, CallResult
    from .context import Context

NAME_CAP: Final = 200
VALUE_CAP: Final = 64 << 10
"""Bytes of JSON that one value may have."""
EVENT_CAP: Final = 5_000
"""Values that one event may write into a stream."""
KEPT: Final = 10_000
"""Values of a stream that are kept; the oldest go first."""


class StreamError(HeadraceError):
    """A node wrote what can't be, or where it may not: the event fails, and is not tried again."""

    reason_code = "stream"
    final = True


class StreamLost(HeadraceError):
    """Another process has the event by now; what this one makes of it is not heard."""

    def __init__(self, why: str) -> None:
        super().__init__(f"what the node writes is not taken any more: {why}")


class StreamPlace(NamedTuple):
    """Where an attempt writes."""

    run: str
    number: int
    """Of the run."""
    stream: str
    node: str
    event: str
    """Id of the event that the node has, and how many nodes it had passed."""


class StreamOpened(msgspec.Struct, frozen=True, gc=False):
    """Effect: what was written into a stream is there to stay, once the event is committed."""

    place: StreamPlace


class StreamSink(Protocol):
    """Takes what nodes write."""

    async def append(
        self, partition: int, owner: str, place: StreamPlace, token: str, number: int, value: bytes
    ) -> None:
        """Append a value, visible at once. While the store is away it waits.

        Args:
            partition: The run's.
            owner: On whose behalf.
            place: Where to.
            token: Of the attempt: what another one has written at the same place is cut off.
            number: Of the value, from 1 on in each attempt: one that is there already is not appended again.
            value: JSON.

        Raises:
            StreamLost: The partition has another owner, or another process has the event.
        """


class Writing:
    """What the events of one call write."""

    def __init__(self, call: Call, sink: StreamSink) -> None:
        self.call = call
        self.sink = sink
        self.opened: set[StreamPlace] = set()
        """By attempts of this call, whatever became of them."""
        self.going: set[tuple[str, str]] = set()
        """Node and event (as in `StreamPlace`) of attempts that go on when the call has ended; see `slow`."""

    def void(self, result: CallResult) -> list[StreamPlace]:
        """Where attempts have written that came to nothing."""
        void = self.opened.difference(effect.place for effect in result.effects if effect.place is not None)
        return sorted(place for place in void if (place.node, place.event) not in self.going)

    def stream(self, ctx: Context[Any, Any], name: str) -> EventStream:
        """A stream of the event that the context has."""
        return EventStream(self, ctx, name)


def attempted(ctx: Context[Any, Any]) -> tuple[str, str]:
    """Node, and event as `StreamPlace` has it, that a context is for."""
    event = ctx._event
    assert event is not None, "nodes have an event, or what fell due"
    return ctx._node, f"{event.id}/{ctx._hop}"


class EventStream:
    """What one attempt at one event writes into one stream; use it as a context manager."""

    def __init__(self, writing: Writing, ctx: Context[Any, Any], name: str) -> None:
        self._writing = writing
        self._ctx = ctx
        run = ctx.run.key
        number = writing.call.numbers[writing.call.keys.index(run)]
        self._place = StreamPlace(run, number, name, *attempted(ctx))
        self._token = secrets.token_hex(8)
        self._count = 0
        self._is_open = False

    async def __aenter__(self) -> EventStream:
        if any(isinstance(row, StreamOpened) and row.place == self._place for row in self._ctx._effects or ()):
            raise StreamError(f"this event has written the stream {self._place.stream!r} already, and closed it")
        self._is_open = True
        self._ctx._ask(StreamOpened(self._place))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False

    async def write(self, value: object) -> None:
        """Append a value; readers see it at once.

        Raises:
            StreamError: The stream is closed, or the value or its number is over a limit.
            CodecError: JSON can't carry it; names the field.
        """
        name = self._place.stream
        if not self._is_open:
            raise StreamError(
                f"the stream {name!r} of this event is closed: write inside of `async with ctx.stream(...)`"
            )
        blob = encode_json(value)
        if len(blob) > VALUE_CAP:
            raise StreamError(f"{len(blob)} bytes, over the cap of {VALUE_CAP} for one value of a stream")
        self._count += 1
        if self._count > EVENT_CAP:
            raise StreamError(f"over the cap of {EVENT_CAP} values that one event may write into {name!r}")
        call = self._writing.call
        self._writing.opened.add(self._place)
        await self._writing.sink.append(call.partition, call.owner, self._place, self._token, self._count, blob)
