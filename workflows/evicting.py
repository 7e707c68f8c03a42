"""What stands still longest becomes dead letters while too much does, in a workflow that wants it so.

That happens in an epoch of its own, once those before it are done: nothing of an earlier epoch may pass where an event
still stands in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .answering import failed
from .commit import DeadLetter
from .epoch import Epoch
from .parking import Parked, Ticket
from .records import Reentry

if TYPE_CHECKING:
    from .partition import PartitionCore

REASON: Final = "parked-full"
"""Of the dead letters that it makes."""


class Evicting:
    """Makes room among the events of one partition that stand still."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._makes_room = core.plan.parked_full == "dead-letter"
        self._spared: set[Ticket] = set()
        """What fell due and has not begun: it is no event of a source, and a run that is to end must."""
        self.under_way = False
        """Events were taken out of their queues for it, and the store was asked for them."""

    def is_due(self) -> bool:
        """There is no room, and something that can go."""
        return bool(self._surplus(1))

    def take(self) -> list[Ticket]:
        """Those that are to go, the oldest; they are under way from here on."""
        tickets = self._surplus(self._core.limits.recall)
        self._core.parking.under_way.update(tickets)
        self.under_way = bool(tickets)
        return tickets

    def _surplus(self, limit: int) -> list[Ticket]:
        core, limits = self._core, self._core.limits
        if not (self._makes_room and core.parking_full):
            return []
        return core.parking.surplus(limits.parked - 1, limits.parked_of_key - 1, self._spared)[:limit]

    def offer(self, rows: Sequence[tuple[Ticket, Parked]], now: int) -> None:
        """The store has given them: their epoch begins."""
        self.under_way = False
        epoch = self._core.new_epoch(now)
        epoch.count, epoch.evicts = len(rows), True
        epoch.tickets.update(rows)
        self._core.begin(epoch, now)

    def enter(self, epoch: Epoch) -> None:
        """All epochs before it are done: they leave their queues, but those whose runs have ended meanwhile."""
        parking, now = self._core.parking, self._core.router.now
        self._spared = {ticket for ticket in self._spared if parking.has(ticket)}
        self._spared.update(ticket for ticket, parked in epoch.tickets.items() if parked.timer)
        stand = [ticket for ticket in epoch.tickets if parking.has(ticket) and ticket not in self._spared]
        for ticket in stand:
            letter = self._letter(ticket, epoch.tickets[ticket], now)
            self._core.router.dead(epoch, -1, (), letter)
            if ticket.asked is not None:
                epoch.pending.answers.append((-1, ticket.asked, failed(letter), letter.key))
        self._core.standing.remove(epoch, stand, now)

    def _letter(self, ticket: Ticket, parked: Parked, now: int) -> DeadLetter:
        where = ticket.node or parked.enters
        node = self._core.plan.node_called(where)
        name = where if node is None else node.name
        last = f", after {parked.attempts} attempts, the last one failed by: {parked.error}" if parked.attempts else ""
        return DeadLetter(
            id=parked.id, key=parked.key, source=parked.source, node=name or None, reason=REASON,
            error=f"too many events stood still, and it was the one that did so longest{last}",
            attempts=max(1, parked.attempts), time=now, event_time=parked.time, type=parked.type or None,
            data=parked.data if parked.original is None else parked.original, headers=parked.headers,
            reentry=Reentry(node=name, type=parked.type, visits=parked.visits, depth=parked.depth) if name else None,
        )  # fmt: skip
