"""In a unit: which events may not enter a node, because an earlier one of their run stands still before it."""

from __future__ import annotations

from typing import Final

from .calls import Call
from .entries import Entry

NONE_MAY: Final = -1
"""In `Entry.stopped`: an event has failed there in this call and is to be tried again; all others stand behind it."""
IS_PAUSED: Final = -2
"""In `Entry.stopped`: a person has paused the node."""


class StandsBehind(Exception):
    """The event may not enter the node now."""


class NodePaused(Exception):
    """No event may enter the node now."""


def stop_runs(call: Call, entries: list[Entry]) -> None:
    """Note where events of a call's runs stand still already."""
    for run, node, count in call.blocked or ():
        entry = entries[run]
        if entry.stopped is None:
            entry.stopped = {}
        entry.stopped[node] = count


def may_enter(entry: Entry, node: int, call: Call, index: int, *, first: bool, serial: bool) -> bool:
    """Whether the event may enter a node of a run of which something stands still.

    Args:
        entry: Its run.
        node: Index of the node.
        call: The call that it came in.
        index: Which event of the call it is.
        first: It is the node by which it enters the unit.
        serial: Nothing of a run begins behind something that stands still, wherever.
    """
    stopped = entry.stopped
    assert stopped is not None
    stood = first and call.attempts is not None and call.attempts[index] >= 0
    if first and serial and NONE_MAY in stopped.values():
        return False
    return node not in stopped or (stood and stopped[node] > NONE_MAY)


def come_in(entry: Entry, node: int, call: Call, index: int, *, first: bool, serial: bool) -> None:
    """The same; one that stood there itself makes room for those behind it.

    Raises:
        StandsBehind: It may not.
        NodePaused: The node is paused; what comes after it of a serial workflow's run stands behind it.
    """
    stopped = entry.stopped
    assert stopped is not None
    if not may_enter(entry, node, call, index, first=first, serial=serial):
        count = stopped.get(node, NONE_MAY)
        if count == IS_PAUSED and not (first and serial and NONE_MAY in stopped.values()):
            if serial:
                stopped[node] = NONE_MAY
            raise NodePaused
        if count > NONE_MAY:
            stopped[node] += 1  # it stands there, too
        raise StandsBehind
    if node in stopped:
        stopped[node] -= 1
        if not stopped[node]:
            del stopped[node]


def stop(entry: Entry, node: int) -> None:
    """An event has failed at the node, and is to be tried again: those that follow stand behind it."""
    if entry.stopped is None:
        entry.stopped = {}
    entry.stopped[node] = NONE_MAY
