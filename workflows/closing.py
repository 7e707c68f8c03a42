"""Nodes that get no events for now: their processes are away for longer than an epoch waits, or a person paused them.

Events that come to such a node stand still before it, durably and in order, and fall due at once when it gets events
again; whatever goes elsewhere goes on. Of a call that is given up, nothing is taken any more: its number is not that
of any call that somebody waits for.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING

from .calls import PAUSED, UNAVAILABLE, CallResult, Failed
from .executing import closed
from .parking import BEHIND

if TYPE_CHECKING:
    from .dispatch import Dispatch
    from .epoch import Place
    from .parking import Ticket
    from .partition import PartitionCore


class Closing:
    """Holds events of one partition back from nodes."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._plan = core.plan
        self._away: frozenset[Place] = frozenset()
        self._paused: frozenset[int] = frozenset()
        self._names: frozenset[str] = frozenset()

    def set(self, away: Collection[Place], paused: Collection[str], now: int) -> None:
        """From now on these get no events, and no others; calls under way at those that are away are given up.

        Args:
            away: (unit, replica) that can't answer.
            paused: Names of nodes; what is under way there ends as it does.
            now: Milliseconds since 1970 UTC, by the store's clock.
        """
        core, places, names = self._core, frozenset(away), frozenset(paused)
        if (places, names) == (self._away, self._names):
            return
        nodes = frozenset(node.index for node in self._plan.nodes if node.name in names)
        self._away, self._paused, self._names = places, nodes, names
        core.dispatcher.paused = nodes
        core.parking.is_held = self._holds if places or nodes else None
        core.parking.look_again()
        core.router.now = now
        for place in sorted(places):
            dispatch = core.dispatcher.busy.get(place)
            if dispatch is not None:
                self.give_up(dispatch, UNAVAILABLE, now)
        core.advance(now)

    def start(self, now: int) -> list[Dispatch]:
        """All calls that may go out now; events before nodes that get none stand still."""
        core, started = self._core, list["Dispatch"]()
        while True:
            found = core.dispatcher.start(core.epochs, now)
            if not (self._away or self._paused):
                return started + found
            closed = [self._is_closed(dispatch) for dispatch in found]
            started += [dispatch for dispatch, is_closed in zip(found, closed, strict=True) if not is_closed]
            if not any(closed):
                return started
            for dispatch, is_closed in zip(found, closed, strict=True):
                if is_closed:
                    is_away = (dispatch.call.unit, dispatch.call.replica) in self._away
                    self.give_up(dispatch, UNAVAILABLE if is_away else PAUSED, now)

    def _is_closed(self, dispatch: Dispatch) -> bool:
        """No event of the call may enter; where it is some of them, the unit sees to it: see `Call.blocked`."""
        call = dispatch.call
        return (call.unit, call.replica) in self._away or self._paused.issuperset(call.nodes)

    def give_up(self, dispatch: Dispatch, reason: str, now: int) -> None:
        """All events of a call stand still before the nodes that they were to enter; its result is not heard any more.

        Args:
            dispatch: The call.
            reason: One of `CLOSED`.
            now: Milliseconds since 1970 UTC.
        """
        core, call = self._core, dispatch.call
        place = (call.unit, call.replica)
        dispatch.given_up = True
        del core.dispatcher.busy[place]
        result = CallResult(
            partition=call.partition, unit=call.unit, replica=call.replica, number=call.number, owner=call.owner,
            codes=bytes(len(call.runs)), failed=self._rows(dispatch, reason), states=[], executed=closed(call, reason),
        )  # fmt: skip
        core.router.finished(dispatch, result, now)

    def _rows(self, dispatch: Dispatch, reason: str) -> list[Failed]:
        """By event: that it stands still. In a serial workflow what follows of a run stands behind."""
        call, epoch, executed = dispatch.call, dispatch.epoch, {index for index, _ in dispatch.call.executions or ()}
        stopped = {index for index, run in enumerate(dispatch.runs) if run in epoch.stopped}
        rows: list[Failed] = []
        for index, (run, node, type) in enumerate(zip(call.runs, call.nodes, call.types, strict=True)):
            if index in executed:
                continue
            hops = (call.hops[index] if call.hops else 0) + 1
            if self._plan.serial and run in stopped:
                rows.append(Failed(index, (), node, BEHIND, "", None, type, None, hops, 0, 0))
                continue
            stopped.add(run)
            attempts = max(0, call.attempts[index]) if call.attempts is not None else 0
            rows.append(Failed(index, (), node, reason, "", None, type, None, hops, attempts, 0, call.falls))
        return rows

    def _holds(self, ticket: Ticket) -> bool:
        """It stands still before a node that gets no events."""
        node = self._plan.node_called(self._core.parking.name(ticket)) if ticket.node else None
        if node is None:
            return False
        unit = self._plan.unit_of[node.index]
        replica = zlib.crc32(ticket.key.encode()) % self._plan.units[unit].replicas
        return node.index in self._paused or (unit, replica) in self._away
