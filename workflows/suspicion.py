"""Events that are suspected of having ended the process that processed them, and when that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from .context import Context
from .deadline import DeadlineExceeded
from .errors import HeadraceError
from .events import Event, id_of, place_of

DEATHS: Final = 3
"""Processes that an event may end until it is a dead letter: two may be chance (out of memory, a `kill`)."""
_REPLACED: Final = "its process was replaced"


class PoisonEvent(HeadraceError):
    """An event has ended the process of its node each time that it was tried."""

    reason_code = "poison"
    final = True

    def __init__(self, deaths: int, trace: str = "") -> None:
        last = cause_of(trace) or "without a trace, as after SIGKILL, out of memory or os._exit"
        super().__init__(f"ended its process {deaths} times, the last time: {last}")
        self.deaths = deaths
        self.trace = trace

    def __reduce__(self) -> tuple[type[PoisonEvent], tuple[int, str]]:
        return PoisonEvent, (self.deaths, self.trace)


class Where(msgspec.Struct, frozen=True, array_like=True):
    """An event at a node: by the source's event, and as `Context.idempotency_key` names the place."""

    unit: int
    root: str
    """Id of the source's event it came from."""
    key: str = ""
    """Empty: at some node of the unit."""


class Place(msgspec.Struct):
    """What is known of an event at one node."""

    deaths: int = 0
    overtime: float = 0.0
    """Its `timeout=` in seconds, where it was still there after it; else 0."""
    trace: str = ""
    """What the last process left behind: Python's report of a fatal error, if it could still write one."""


class Suspect(msgspec.Struct):
    """What came of one event of a source, in one unit."""

    unit: int
    root: str
    version: str
    """Of the code: with another one it is as good as any."""
    deaths: int = 0
    """Of which it is not known at which node they were, or whether it was this event at all."""
    places: dict[str, Place] = {}
    """By key, see `Where`."""
    settled: tuple[str, int] | None = None
    """Owner and number of the call in which it failed for what is known of it."""
    changed: float = 0.0
    """Seconds since 1970 UTC."""

    def blame(self, key: str, overtime: float, trace: str) -> None:
        """A process has ended with it."""
        if not key:
            self.deaths += 1
            return
        place = self.places.setdefault(key, Place())
        place.deaths += 1
        place.overtime, place.trace = overtime, trace

    def verdict(self, key: str) -> PoisonEvent | DeadlineExceeded | None:
        """What it fails with at this place; None: it is tried again."""
        place = self.places.get(key)
        return None if place is None else verdict(place, self.deaths)


def verdict(place: Place, others: int = 0) -> PoisonEvent | DeadlineExceeded | None:
    """Again, or dead letter: the one place where that is decided.

    Args:
        place: What is known of the event at the node.
        others: Deaths in which it may have been this event.

    Returns:
        What the event fails with; None: it is tried again.
    """
    if place.overtime:
        return DeadlineExceeded(timedelta(seconds=place.overtime), _REPLACED, place.trace)
    if place.deaths + others >= DEATHS:
        return PoisonEvent(place.deaths + others, place.trace)
    return None


def root_of(event: Event[Any]) -> str:
    """Id of the source's event that it came from."""
    return f"{place_of(event.origin)}{event.offset}"


def passing_of(event: Event[Any]) -> str:
    """Id of the event as it last came to a workflow that is a node, with joins inside; else that of its root.

    What passes such a door gets the number -1 in its path, see `program.Step.marks`.
    """
    path = event.path
    for place in range(len(path) - 1, -1, -1):
        if path[place] < 0:
            return id_of(event.origin, event.offset, path[:place])
    return root_of(event)


def roots_of(origins: Sequence[str], origin_of: Sequence[int], offsets: Sequence[int | str]) -> list[str]:
    """The same for the events of a call, from its columns."""
    places = [place_of(origin) for origin in origins]
    return [f"{places[origin]}{offset}" for origin, offset in zip(origin_of, offsets, strict=True)]


def where_of(unit: int, event: Event[Any], ctx: Context[Any, Any]) -> Where:
    """An event that a node has now."""
    return Where(unit, root_of(event), ctx.idempotency_key)


def cause_of(trace: str) -> str:
    """What a report of `faulthandler` says in its first line, and the innermost frame of the thread that did it."""
    lines = trace.splitlines()
    if not lines or not lines[0].startswith("Fatal Python error"):
        return ""
    begin = next((at for at, line in enumerate(lines) if line.startswith("Current thread")), 0)
    frame = next((line.strip() for line in lines[begin:] if line.startswith("  File ")), "")
    return f"{lines[0]}, {frame}" if frame else lines[0]
