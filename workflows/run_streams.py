"""Streams of runs, at the store's side, in memory: what the scripts of the real one do, in plain Python.

A stream is a list of entries in the order of their ids. Values that a commit has not sealed are provisional. When an
attempt is cut off, its values go; a `reset` says from which id on what a reader had is void, and what others had
written behind it is written again, after that. So a reader that drops what a reset names has what the stream holds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from .streaming import KEPT, StreamLost, StreamPlace

EntryKind: TypeAlias = Literal["value", "reset", "end"]


class Streamed(NamedTuple):
    """One entry as a reader gets it."""

    id: str
    """Grows; to be read on after."""
    kind: EntryKind
    value: bytes
    """JSON. Of a `reset`: the id from which on all that came before it is void; of the `end`: how the run ended."""


@dataclass(slots=True)
class Attempt:
    """One that has written and is not sealed."""

    token: str
    first: int
    """Id of its first entry."""
    last: int = 0
    """Number of its last value."""


@dataclass(slots=True)
class RunStream:
    """One stream of one run."""

    entries: list[tuple[int, EntryKind, bytes, StreamPlace | None]] = field(default_factory=list)
    open: dict[StreamPlace, Attempt] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """Streams of one run, by name."""

    number: int
    streams: dict[str, RunStream] = field(default_factory=dict)
    ended: bool = False
    until: int | None = None
    """When they go: milliseconds since 1970 UTC."""


class RunStreams:
    """All streams of a partition."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._last = 0
        """Id of the last entry; ids of all streams grow together, as time does."""

    def __copy__(self) -> RunStreams:
        copied = RunStreams()
        copied._runs, copied._last = copy.deepcopy(self._runs), self._last
        return copied

    def _add(self, stream: RunStream, kind: EntryKind, value: bytes, place: StreamPlace | None = None) -> int:
        self._last += 1
        stream.entries.append((self._last, kind, value, place))
        return self._last

    def append(self, place: StreamPlace, token: str, number: int, value: bytes) -> None:
        """See `StreamSink.append`."""
        run, void = self._runs.get(place.run), False
        if run is None or run.number < place.number:
            void = run is not None and place.stream in run.streams
            run = self._runs[place.run] = _Run(place.number)
        if run.number > place.number or run.ended:
            raise StreamLost("the run has ended")
        stream = run.streams.setdefault(place.stream, RunStream())
        if void:
            self._add(stream, "reset", b"0-0")
        attempt = stream.open.get(place)
        if attempt is not None and attempt.token != token:
            self._cut(stream, place)
            attempt = None
        if attempt is not None and attempt.last >= number:
            return
        id_ = self._add(stream, "value", value, place)
        if attempt is None:
            attempt = stream.open[place] = Attempt(token, id_)
        attempt.last = number
        del stream.entries[: max(0, len(stream.entries) - KEPT)]

    def _cut(self, stream: RunStream, place: StreamPlace) -> None:
        """What the attempt that is open there has written is void."""
        attempt = stream.open.pop(place, None)
        if attempt is None:
            return
        behind = [entry for entry in stream.entries if entry[0] >= attempt.first]
        stream.entries = stream.entries[: len(stream.entries) - len(behind)]
        self._add(stream, "reset", str(attempt.first).encode() + b"-0")
        moved: dict[StreamPlace, int] = {}
        for _, kind, value, other in behind:  # resets among them are within what this one says
            if other is not None and other != place:
                moved.setdefault(other, self._add(stream, kind, value, other))
        for other, was in stream.open.items():
            if was.first >= attempt.first and other in moved:
                was.first = moved[other]

    def _of(self, place: StreamPlace) -> RunStream | None:
        run = self._runs.get(place.run)
        return run.streams.get(place.stream) if run is not None and run.number == place.number else None

    def seal(self, place: StreamPlace) -> None:
        """An event is committed that has written there: that stays."""
        stream = self._of(place)
        if stream is not None:
            stream.open.pop(place, None)

    def cut(self, place: StreamPlace) -> None:
        """An event has failed that has written there."""
        stream = self._of(place)
        if stream is not None:
            self._cut(stream, place)

    def cut_all(self) -> None:
        """A new owner: what is not sealed was written on behalf of another one."""
        for run in self._runs.values():
            self._cut_all_of(run)

    def _cut_all_of(self, run: _Run) -> None:
        for stream in run.streams.values():
            for place in sorted(stream.open):
                self._cut(stream, place)

    def end(self, key: str, number: int, outcome: str, until: int | None) -> None:
        """The run has ended: what is not sealed is void, and nothing comes any more."""
        run = self._runs.get(key)
        if run is None or run.number != number:
            return
        self._cut_all_of(run)
        for stream in run.streams.values():
            self._add(stream, "end", outcome.encode())
        run.ended, run.until = True, until

    def forget(self, key: str) -> None:
        """Nothing is to be kept of a run's."""
        self._runs.pop(key, None)

    def expire(self, now: int) -> None:
        """Forget what has been kept for long enough."""
        for key in [key for key, run in self._runs.items() if run.until is not None and run.until <= now]:
            del self._runs[key]

    def names(self, key: str) -> list[str]:
        """Of a run's streams, in the order in which they began."""
        run = self._runs.get(key)
        return list(run.streams) if run else []

    def read(self, key: str, name: str, after: str, limit: int) -> list[Streamed]:
        """Entries after an id."""
        run = self._runs.get(key)
        stream = run.streams.get(name) if run else None
        last = order_of(after)[0]
        rows = [entry for entry in stream.entries if entry[0] > last] if stream else []
        return [Streamed(f"{number}-0", kind, value) for number, kind, value, _ in rows[:limit]]


def values_of(entries: list[Streamed]) -> list[bytes]:
    """The values that count, of what was read from the beginning on."""
    values: list[tuple[tuple[int, int], bytes]] = []
    for entry in entries:
        if entry.kind == "value":
            values.append((order_of(entry.id), entry.value))
        elif entry.kind == "reset":
            void = order_of(entry.value.decode())
            values = [row for row in values if row[0] < void]
    return [value for _, value in values]


def order_of(id: str) -> tuple[int, int]:
    """Sort key of an entry's id."""
    time, _, number = id.partition("-")
    return int(time), int(number or 0)
