"""Follows streams of runs: from an id on, entry by entry, without a gap and without a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

import structlog

from headrace.actors.store_followed import FIRST, Followed, FollowedStreams
from headrace.gateway.listening import Listener, Topic
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.run_streams import order_of
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

KEEP_ALIVE: Final = 15.0
"""Seconds without an entry after which a follower hears that it is still followed; proxies cut what is silent."""
_AT_ONCE: Final = 200
_PAUSE: Final = 0.5
NEVER_WRITTEN: Final = "end-"
"""The `end` of a stream that was never written has this as its id, with the run's number: it has no entry."""


class StreamPlace(NamedTuple):
    """Where a stream lies."""

    workflow: str
    partition: int
    key: str
    name: str


class Told(NamedTuple):
    """What a follower is told."""

    kind: str
    """`value`, `reset`, `end`; `gone`: there is no such run any more; `alive`: nothing has come for a while."""
    value: bytes = b""
    """JSON of a value; of a `reset`, the id from which on all that came before is void; of the `end`, how."""
    id: str = ""
    """To go on after; "": after the one before."""
    event: str = ""
    """Id of the event that a value was written for."""


def _never() -> bool:
    return False


class Follower:
    """Follows streams for the callers of one process.

    Args:
        streams: Reads them.
        listener: Says when.
    """

    def __init__(self, streams: FollowedStreams, listener: Listener) -> None:
        self._streams = streams
        self._listener = listener
        self._ears: set[asyncio.Event] = set()
        self._stopping = False

    @property
    def following(self) -> int:
        """Callers that follow."""
        return len(self._ears)

    def stop_waiting(self) -> None:
        """All are let go: they come again, to another process."""
        self._stopping = True
        for ear in self._ears:
            ear.set()

    async def read(self, place: StreamPlace, after: str = FIRST, limit: int = _AT_ONCE) -> Followed:
        """What there is now.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return await self._streams.read(*place, after=after, limit=limit)

    async def last(self, place: StreamPlace) -> str:
        """Id of the last entry that is there now.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return await self._streams.last(*place)

    async def follow(
        self,
        place: StreamPlace,
        after: str = FIRST,
        *,
        ear: asyncio.Event | None = None,
        until: Callable[[], bool] | None = None,
    ) -> AsyncGenerator[Told, None]:
        """All that comes behind an id, until the run's end, or this process's.

        While the store is away it waits. What a slow reader has missed, as it is not kept any more, is told by a reset.

        Args:
            place: Of the stream.
            after: Id of the last entry that the follower has had.
            ear: Set when it is to look again, whatever is heard.
            until: Once this is so, what is there is read, and that is all; the run's end is no matter.
        """
        keys, ear = PartitionKeys(place.workflow, place.partition), ear or asyncio.Event()
        topics = (Topic.streams(keys, place.key, place.name), Topic.run(keys, place.key))
        self._ears.add(ear)
        try:
            with self._listener.listen(*topics, ear=ear):
                async for told in self._follow(place, after, ear, until or _never):
                    yield told
        finally:
            self._ears.discard(ear)

    async def _follow(
        self, place: StreamPlace, after: str, ear: asyncio.Event, until: Callable[[], bool]
    ) -> AsyncGenerator[Told, None]:
        is_turn = until is not _never
        while not self._stopping:
            ear.clear()
            is_last = until()
            try:
                found = await self.read(place, after)
            except StoreUnavailable as problem:
                _log.info("stream_not_read", workflow=place.workflow, reason=problem.cause)
                await asyncio.sleep(_PAUSE)
                ear.set()
                yield Told("alive")
                continue
            if found.is_torn:
                yield Told("reset", FIRST.encode())
                after = FIRST
                continue
            for entry, event in zip(found.entries, found.events, strict=True):
                yield Told(entry.kind, entry.value, entry.id, event)
                after = entry.id
                if entry.kind == "end" and not is_turn:
                    return
            if len(found.entries) == _AT_ONCE:
                continue
            if is_last:
                return
            if not found.is_there and not is_turn:
                yield Told("gone")
                return
            if found.is_over and not found.is_written and not is_turn:
                yield Told("end", (found.status or "").encode(), f"{NEVER_WRITTEN}{found.number}")
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    await ear.wait()
            except TimeoutError:
                yield Told("alive")


def has_had_all(found: Followed, last: str) -> bool:
    """Whether a follower whose last id this is has had all, the end included.

    Args:
        found: What there is behind that id.
        last: The id.
    """
    if not found.is_over or found.entries:
        return False
    return found.is_written if not last.startswith(NEVER_WRITTEN) else last == f"{NEVER_WRITTEN}{found.number}"


class Page(NamedTuple):
    """A part of the values of a stream that count now."""

    values: list[bytes]
    """JSON."""
    total: int
    """How many the stream has."""
    last: str
    """Id to follow it on from."""
    status: str | None
    """How the run has ended; None: more may come."""


async def page_of(follower: Follower, place: StreamPlace, offset: int, limit: int) -> Page | None:
    """Values of a stream from an offset on; None: there is no such run.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    values: list[tuple[tuple[int, int], bytes]] = []
    last, found = FIRST, await follower.read(place)
    while True:
        for entry in found.entries:
            last = entry.id
            if entry.kind == "value":
                is_asked = offset <= len(values) < offset + limit
                values.append((order_of(entry.id), entry.value if is_asked else b""))
            elif entry.kind == "reset":
                void = order_of(entry.value.decode())
                while values and values[-1][0] >= void:
                    values.pop()
        if not found.entries:
            break
        found = await follower.read(place, last)
        if found.is_torn:
            values, found = [], await follower.read(place)
    if not found.is_there:
        return None
    wanted = [value for _, value in values[offset : offset + limit]]
    return Page(wanted, len(values), last, found.status if found.is_over else None)
