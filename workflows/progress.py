"""Where a runner is in its call: noted so that whoever comes after a process that died in it knows at which event.

A runner notes a number before each event of each node: a store into an array, 30 ns. Where the array outlives the
process (`headrace.actors.progress_files`), its successor finds the events that may have ended it. They are *suspects*:
in the call that comes again they go alone, at nodes that note exactly what they have, and that ask first whether it has
ended too many processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from .calls import Call
from .context import Context
from .events import Event
from .program import NodeProgram

LANES: Final = 4096
"""Events that a call may have at nodes at the same time and be told apart: runs of `async` nodes, events of a batch."""
INDEX_BITS: Final = 24
"""Of a mark: the event's index in the call; above it the node's position in the unit, from 1."""


class Lanes(Protocol):
    """Numbers that can be set: a list, or memory that outlives the process."""

    def __setitem__(self, lane: int, mark: int, /) -> None:
        """An event is at a node from now on; 0: none is."""


class Seat:
    """Where one call notes how far it is. This one forgets it.

    Args:
        lanes: Gets the marks.
        suspects: Indexes of events of the call that may have ended a process.
    """

    def __init__(self, lanes: Lanes, suspects: Collection[int] = ()) -> None:
        self.lanes = lanes
        self.suspects = suspects
        self.guarding = bool(suspects)
        """What runs now runs alone, and is asked about."""

    def enter(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        """A node is about to have this event, alone.

        Raises:
            PoisonEvent: It has ended too many processes there.
            DeadlineExceeded: It was there for longer than it may.
            StillRuns: It may not yet: another one that is suspected is there.
        """

    def clear(self) -> None:
        """No event is at a node now."""

    def end(self) -> None:
        """The call is done."""


class Progress:
    """What a process notes of its calls. This one keeps nothing: nobody comes after it (a test, a debugger)."""

    def __init__(self) -> None:
        self._seat = Seat([0] * LANES)

    def begin(self, call: Call) -> Seat:
        """A call begins."""
        del call
        return self._seat

    def timed(self, process: Callable[..., Any], timeout: timedelta, unit: int) -> Callable[..., Any]:
        """The `process` of a node that is not async, with a deadline."""
        del timeout, unit
        return process

    def hold(self, unit: int, event: Event[Any], ctx: Context[Any, Any]) -> Callable[[], None]:
        """A node goes on with an event that its call does not wait for: noted until what this returns is called."""
        del unit, event, ctx
        return _nothing

    def close(self) -> None:
        """The process ends as it should."""


def _nothing() -> None: ...


def mark_of(position: int) -> int:
    """Mark of event 0 of a call at a node."""
    return (position + 1) << INDEX_BITS


def free_and_alone(
    runs: Sequence[int], indexes: Sequence[int], suspects: Collection[int]
) -> tuple[list[int], list[int]]:
    """Events that go as ever, and those of runs with a suspect: a run's events keep their order.

    Args:
        runs: By event of the call: its run.
        indexes: The events in question.
        suspects: Events among them.
    """
    if not suspects:
        return list(indexes), []
    held = {runs[index] for index in suspects}
    return [index for index in indexes if runs[index] not in held], [index for index in indexes if runs[index] in held]


def guarding(nodes: Sequence[NodeProgram], seat: Seat) -> list[NodeProgram]:
    """The same nodes, for events that go alone."""
    return [_guarding(node, seat) for node in nodes]


def _guarding(node: NodeProgram, seat: Seat) -> NodeProgram:
    copied, process = copy.copy(node), node.process

    def call(event: Event[Any], ctx: Context[Any, Any]) -> Any:
        seat.enter(event, ctx)
        return process(event, ctx)

    async def call_async(event: Event[Any], ctx: Context[Any, Any]) -> Any:
        seat.enter(event, ctx)
        return await process(event, ctx)

    copied.process = call_async if node.is_async else call
    return copied
