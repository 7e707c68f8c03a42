"""From the store's events that stood still to records that go on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from .errors import HeadraceError
from .parking import PARKED, Parked, Ticket, decode, is_kept
from .records import Records, Reentry
from .timers import due_of

if TYPE_CHECKING:
    from .partition import PartitionCore

_RECALLS: Final = 8
"""So many times as many events as `Limits.recall` may be under way from where they stood still."""


class Recalling:
    """Lets events of one partition that stand still go on when they are due, or make room."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._sources = {source.name: source.index for source in core.plan.sources}
        self.under_way: set[Ticket] = set()
        """Events that stood still and are on their way from the store, or in an epoch."""

    @property
    def due(self) -> int | None:
        """When some are to go on, or to make room."""
        core, count = self._core, len(self.under_way)
        if core.draining or core.ended or core.evicting.under_way or count >= _RECALLS * core.limits.recall:
            return None
        if count and core.plan.serial:  # what they come to may stand still ahead of those behind them
            return None
        return 0 if not count and core.evicting.is_due() else core.parking.next_due()

    def take(self, now: int) -> list[Ticket]:
        """Those that are to be fetched from the store now."""
        due, core = self.due, self._core
        if due is None or due > now:
            return []
        makes_room = [] if self.under_way else core.evicting.take()
        tickets = makes_room or core.parking.take(now, core.limits.recall, core.limits.together)
        self.under_way.update(tickets)
        return tickets

    def came(self, tickets: Sequence[Ticket], blobs: Sequence[bytes | None], now: int) -> None:
        """The store has given them; what is void meanwhile does not go on."""
        core = self._core
        wanted = [ticket for ticket in tickets if not (core.ended or core.control.is_void(ticket))]
        rows = found(wanted, dict(zip(tickets, blobs, strict=True)))
        self.done(set(tickets).difference(wanted))
        if core.evicting.under_way:
            core.evicting.offer(rows, now)
        elif rows:
            core.offer(as_records(rows, self._sources), now)
        else:
            core.advance(now)

    def done(self, tickets: Collection[Ticket]) -> None:
        """What became of these is in the store."""
        self._core.parking.committed(tickets)
        self._core.control.settled(tickets)
        self.under_way.difference_update(tickets)


def found(tickets: Iterable[Ticket], blobs: Mapping[Ticket, bytes | None]) -> list[tuple[Ticket, Parked]]:
    """Events that stand still, as the store has them; HeadraceError: it has one of them not."""
    rows = [(ticket, blobs[ticket]) for ticket in tickets]
    if missing := [ticket.field for ticket, blob in rows if blob is None]:
        raise HeadraceError(f"the store does not have the event that stands still as {missing[0]}")
    return [(ticket, decode(blob)) for ticket, blob in rows if blob is not None]


def as_records(rows: Sequence[tuple[Ticket, Parked]], sources: Mapping[str, int]) -> list[Records]:
    """Parked events as records that enter where they stand, in order; those of one kind in a row together.

    Args:
        rows: In the order in which they are to go on.
        sources: Name -> index of each source of the workflow.
    """
    batches: list[Records] = []
    for (node, enters, type, visits, depth, source, *timer), group in groupby(rows, key=_kind):
        tickets, parked = zip(*group, strict=True)
        own = sources.get(source, -1)
        batches.append(
            Records(
                own, PARKED, [row.id for row in parked], [row.time for row in parked],
                [row.key.encode() for row in parked], [row.data for row in parked], "",
                headers=[row.headers for row in parked] if any(row.headers for row in parked) else None,
                ids=[row.id for row in parked], unknown="" if own >= 0 else source,
                requests=[(row.request, row.reply) if row.reply else None for row in parked],
                entry=Reentry(
                    node="" if is_kept(tickets[0]) else node or enters, type=type, visits=visits, depth=depth
                ),
                original=_original(parked),
                standing=list(zip(tickets, parked, strict=True)),
                firings=[(due_of(row.timer), row.time) for row in parked] if any(timer) else None,
            )
        )  # fmt: skip
    return batches


def _kind(row: tuple[Ticket, Parked]) -> tuple[str, str, str, int, int, str, str, str]:
    ticket, parked = row
    timer = due_of(parked.timer) if parked.timer else None
    kind, node = (timer.kind, timer.node) if timer else ("", "")
    return ticket.node, parked.enters, parked.type, parked.visits, parked.depth, parked.source, kind, node


def _original(parked: Sequence[Parked]) -> Records | None:
    """What came, where that is not what `data` has."""
    if all(row.original is None for row in parked):
        return None
    values = [row.data if row.original is None else row.original for row in parked]
    headers = [row.headers for row in parked]
    return Records(-1, PARKED, [row.id for row in parked], [], [], values, "", headers=headers)
