"""Waits and time-outs of a workflow that is a node: nodes that users don't write, in one unit with what is inside.

Where an inner run stands, and until when, is one of the run's timers. So it is committed with what the nodes have set,
falls due as they do, and is forgotten with the inner run. An inner run stands at a wait if that node has a timer named
`STANDS`, whether it is to fall due or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from .actions import Action, Timeout, Timer
from .events import Event
from .plan import PART
from .runs import WAIT_FIELD
from .timers import NEVER, TIMERS, RunTimers, Stand, stand_of, timers_of, whole_milliseconds

if TYPE_CHECKING:
    from .context import Context

STANDS: Final = ""
"""Name of a wait's timer; no other node can set one of that name."""
WAIT_PLACE: Final = f"{PART}wait"
"""End of the name of the node that is a wait."""
ARRIVAL_PLACE: Final = f"{PART}arrival"
"""The same, of the node by which comes in what the wait is for."""


class Entry(Action):
    """What a door returns for an event that goes in, and an arrival for one that goes on."""

    IN = "in"


class Awaited(Action):
    """Base of what a door returns for an event that goes on from a wait inside: the value is the wait's node."""


def awaited(waits: Sequence[str]) -> Mapping[str, Awaited]:
    """What a door returns for each wait, by the name of its node."""
    if not waits:
        return {}
    base: Any = Awaited
    made: Any = base("Awaits", {f"WAIT_{number}": name for number, name in enumerate(waits)})
    return {member.value: member for member in made}


def doorway(waits: Sequence[Awaited]) -> Callable[[Event[Any], Context[Any, Any]], Action]:
    """What a door does: an event goes in, or on from the wait that its inner run stands at.

    Args:
        waits: Those for events that come in by the door.
    """
    if not waits:
        return enter

    def entered(event: Event[Any], ctx: Context[Any, Any]) -> Action:
        del event
        timers = timers_at(ctx)
        for wait in waits:
            if timers.has(wait.value, STANDS):
                timers.forget(wait.value)
                return wait
        return Entry.IN

    return entered


def enter(event: object, ctx: object) -> Entry:
    """All events go in."""
    del event, ctx
    return Entry.IN


class InnerWait:
    """A wait: what comes here brings its inner run to stand here, and nowhere else.

    Args:
        name: Of the node.
        waits: Names of the nodes of all waits of the workflow.
        timeout: How long it stands here at most; None: for ever.
    """

    def __init__(self, name: str, waits: Sequence[str], timeout: timedelta | None) -> None:
        self._name = name
        self._waits = waits
        self.timeout = timeout

    def process(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        """The inner run stands here from now on."""
        del event
        timers = timers_at(ctx)
        for name in self._waits:
            timers.forget(name)
        timers.set(
            self._name, STANDS, NEVER if self.timeout is None else ctx._now_ms + whole_milliseconds(self.timeout)
        )

    def on_timer(self, timer: Timer, ctx: Context[Any, Any]) -> Timeout:
        """It has stood here for too long: what has fallen due is a timer no more."""
        del timer, ctx
        assert self.timeout is not None
        return Timeout(self.timeout)


class InnerArrival:
    """Where an event comes in that an inner run stands at a wait for; the core sends it here.

    Args:
        wait: Name of the wait's node.
    """

    def __init__(self, wait: str) -> None:
        self.wait = wait

    def process(self, event: Event[Any], ctx: Context[Any, Any]) -> Entry:
        """The inner run stands there no more."""
        del event
        timers_at(ctx).forget(self.wait)
        return Entry.IN


class InnerTimeout:
    """A time-out of inner runs. Doors set its timer, see `inner_runs`.

    Args:
        kind: `idle` or `total`.
        after: How long it is.
    """

    def __init__(self, kind: str, after: timedelta) -> None:
        self.kind = kind
        self.after = after

    def process(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        """Nothing comes here but what falls due."""

    def on_timer(self, timer: Timer, ctx: Context[Any, Any]) -> Timeout:
        """Its event."""
        del timer, ctx
        return Timeout(self.after)


def timers_at(ctx: Context[Any, Any]) -> RunTimers:
    """The timers of the run that a node has an event of."""
    run: Any = ctx._run
    found: RunTimers = run.timers
    return found


def stands_of(fields: Mapping[str, bytes]) -> list[Stand]:
    """The waits that a run stands at, from its fields: first its own one, then those inside, by name."""
    own = stand_of(fields.get(WAIT_FIELD))
    found = [own] if own.wait else []
    for node, named in sorted(timers_of(fields.get(TIMERS)).set_.items()):
        if STANDS in named:
            generation, due = named[STANDS]
            found.append(Stand(node.removesuffix(WAIT_PLACE), generation, 0, due))
    return found
