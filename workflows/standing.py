"""What becomes of events that stand still: who joins a queue, who goes on, what is committed of it. See `parking`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from .answering import void
from .calls import CLOSED, SLOW, CallResult, Failed, Left
from .codec import TOMBSTONE, type_name
from .parking import BEHIND, EARLY, RETRY, Parked, Parking, Queue, Ticket, kept_before
from .timers import as_taken
from .waves import goes_in_waves

if TYPE_CHECKING:
    from .dispatch import Dispatch
    from .epoch import End, Epoch, Item
    from .partition import PartitionCore
    from .runs import RunRecord

_TOLD = (BEHIND, SLOW, *CLOSED)
"""Reasons that a unit (or the core) gives; whatever else a node failed with, it tries again."""


class Standing:
    """Moves the events of one partition into its queues and out of them."""

    def __init__(self, core: PartitionCore, parking: Parking) -> None:
        self._core = core
        self._plan = core.plan
        self._parking = parking
        self._waves = [goes_in_waves(core.plan, program) for program in core.programs]

    def after(self, dispatch: Dispatch, result: CallResult, now: int) -> None:
        """Take over what a call says of events that stood still, or are to do so."""
        epoch, queues = dispatch.epoch, set[Queue]()
        wanted: dict[Ticket, int] = {}
        rows = [row for row in result.failed if row.wait is not None]
        not_begun = self._not_begun(dispatch, rows)
        stay = self._tickets(dispatch, result, rows, not_begun, queues, wanted, now)
        for row in rows:
            slot = dispatch.slots[row.index]
            root, run = epoch.roots[slot], epoch.runs[slot]
            assert run is not None
            if not row.behind:
                epoch.stopped.setdefault(run, set()).add(row.node)
            if row.index in stay and self._at_entry(dispatch, row):
                continue
            if root in not_begun:
                if not_begun[root] == row.index:
                    self.undo(epoch, root)
                    self.behind(epoch, root, None, now)
                continue
            parked = self._parked(epoch, slot, row, now)
            ticket = self._parking.ticket(
                self._plan.nodes[row.node].name, run.key, epoch.roots_of.get(root), epoch.replies.get(root)
            )
            epoch.pending.parked[ticket] = parked
            queues.add(self._parking.queue(ticket))
            if not row.behind:
                wanted[ticket] = parked.due
        epoch.pending.due.update(self._parking.settle(queues, wanted, now))

    def behind(self, epoch: Epoch, slot: int, node: int | None, now: int) -> None:
        """An event stands still as its run does; with the place that it has, if it stood still before.

        Args:
            epoch: Its epoch.
            slot: The event.
            node: Which it was to enter; None: it is its source's event, and has not begun.
            now: Milliseconds since 1970 UTC.
        """
        run, root = epoch.runs[slot], epoch.roots[slot]
        assert run is not None
        if epoch.standing.pop(slot, None) is not None:
            return
        visits = 0 if node is None else epoch.hops.get(slot, 0) + 1
        row = Failed(0, (), -1, BEHIND, "", None, epoch.types[slot], None, visits, 0, 0)
        name = "" if node is None else self._plan.nodes[node].name
        ticket = self._parking.ticket(name, run.key, epoch.roots_of.get(root), epoch.replies.get(root))
        epoch.pending.parked[ticket] = self._parked(epoch, slot, row, now, begun=node is not None)
        self._settle(epoch, [ticket], now)

    def queue(self, epoch: Epoch, items: Iterable[Item], begun: set[int], now: int) -> None:
        """All that is still to enter of a run stands still; an event that has not begun, as a whole.

        Args:
            epoch: Theirs.
            items: In order.
            begun: The source's events of which something has entered a node.
            now: Milliseconds since 1970 UTC.
        """
        whole: set[int] = set()
        for slot, node in items:
            root, ticket = epoch.roots[slot], epoch.standing.get(slot)
            if root in whole:
                epoch.standing.pop(slot, None)
            elif root in begun or (ticket is not None and ticket.node):
                self.behind(epoch, slot, node, now)
            else:
                whole.add(root)
                self.undo(epoch, root)
                if epoch.standing.pop(slot, None) is None:
                    self.behind(epoch, root, None, now)

    def keep(self, epoch: Epoch, slot: int, queue: str, now: int) -> None:
        """A message is kept until its run gets to a wait for it; in its place, if it was kept before."""
        ticket, run = epoch.standing.pop(slot, None), epoch.runs[slot]
        assert run is not None
        pending, parking = epoch.pending, self._parking
        if ticket is not None and ticket.node == queue:
            if parking.hold(ticket):
                pending.due[ticket] = None
            return
        if ticket is not None:
            self.remove(epoch, [ticket], now)
        row = Failed(0, (), -1, EARLY, "", None, epoch.types[slot], None, 0, 0, 0)
        parked = msgspec.structs.replace(self._parked(epoch, slot, row, now), reason=EARLY, run=run.number)
        asked = epoch.replies.get(epoch.roots[slot])
        pending.parked[parking.ticket(queue, run.key, asked=asked)] = parked

    def release(self, epoch: Epoch, queue: str, key: str, now: int) -> None:
        """The first message that is kept there is to go on now."""
        head = self._parking.head(queue, key)
        if head is not None:
            epoch.pending.due.update(self._parking.settle([(queue, key)], {head: now}, now))

    def release_all(self, epoch: Epoch, key: str, now: int) -> None:
        """The run has ended: messages that are kept for it go on, to where those go that come too late."""
        for source in self._plan.messages:
            self.release(epoch, kept_before(self._plan.sources[source].name), key, now)

    @staticmethod
    def undo(epoch: Epoch, root: int) -> None:
        """What went from the source to sinks at once has not left: it will when the event begins."""
        pending = epoch.pending
        pending.outputs = [row for row in pending.outputs if row[0] != root]
        pending.dead = [row for row in pending.dead if row[0] != root]

    def gone_on(self, epoch: Epoch, slots: Iterable[int], now: int) -> None:
        """Events that stood still have gone on, or can't: they have left their queues."""
        tickets = [epoch.standing.pop(slot) for slot in slots if slot in epoch.standing]
        self.remove(epoch, tickets, now)

    def ended(self, epoch: Epoch, run: RunRecord, end: End, now: int) -> set[Ticket]:
        """A run has ended: what stood still of it, having begun, is no more. What has not begun is the next run's."""
        self.release_all(epoch, run.key, now)
        tickets = self._parking.of_run(run.key)
        answered = tickets if self._plan.keyed else self._parking.of_key(run.key) + self._parking.kept_of(run.key)
        epoch.pending.answers += [(end.root, *row) for row in void(answered, end)]
        self.remove(epoch, tickets, now)
        if tickets:
            self._core.haste.void([(run.key, run.number)])
        return set(tickets)

    def left(self, dispatch: Dispatch, left: Left, now: int) -> None:
        """An inner run has ended: what stood still inside of it before this call, and is not in it, is no more.

        Args:
            dispatch: The call; what of it is to stand still has not been taken over.
            left: Which inner run.
            now: Milliseconds since 1970 UTC.
        """
        epoch, run = dispatch.epoch, dispatch.runs[dispatch.call.runs[left.index]]
        nodes = self._plan.scopes[left.scope].nodes
        inside = {self._plan.nodes[node].name for node in nodes}
        epoch.stopped[run] = epoch.stopped.get(run, set()).difference(nodes)
        if not epoch.stopped[run]:
            del epoch.stopped[run]
        stood = set(self._parking.of_run(run.key)).difference(dispatch.tickets.values())
        tickets = [ticket for ticket in stood if self._parking.name(ticket) in inside]
        self.remove(epoch, tickets, now)
        flow = epoch.flows.get(0)
        queue = flow.queues.get(run) if flow is not None else None
        if queue:
            kept = [item for item in queue if epoch.standing.get(item[0]) not in tickets]
            epoch.load[0] -= len(queue) - len(kept)
            queue.clear()
            queue.extend(kept)

    def remove(self, epoch: Epoch, tickets: Sequence[Ticket], now: int) -> None:
        """They have left their queues."""
        for ticket in tickets:
            self._parking.remove(ticket)
            epoch.pending.parked[ticket] = None
        self._settle(epoch, tickets, now)

    def _settle(self, epoch: Epoch, tickets: Iterable[Ticket], now: int) -> None:
        epoch.pending.due.update(self._parking.settle({self._parking.queue(row) for row in tickets}, {}, now))

    def _not_begun(self, dispatch: Dispatch, rows: Sequence[Failed]) -> dict[int, int]:
        """Events that stand behind others as a whole, with all that they were to enter: index of the first part."""
        region = self._plan.regions[self._plan.region_of[dispatch.call.unit]]
        if not self._plan.serial or region.by_core:  # there each is taken singly, and only once it may begin
            return {}
        roots, epoch = dispatch.epoch.roots, dispatch.epoch
        behind = [row.index for row in rows if row.behind and self._at_entry(dispatch, row)]
        first: dict[int, int] = {}
        for index in behind:
            first.setdefault(roots[dispatch.slots[index]], index)
        parts = Counter(roots[slot] for slot in dispatch.slots)
        stand = Counter(roots[dispatch.slots[index]] for index in behind)
        return {
            root: index
            for root, index in first.items()
            if stand[root] == parts[root] and not (root in epoch.roots_of and epoch.roots_of[root].node)
        }

    def _tickets(
        self, dispatch: Dispatch, result: CallResult, rows: Sequence[Failed], not_begun: Mapping[int, int],
        queues: set[Queue], wanted: dict[Ticket, int], now: int,
    ) -> set[int]:  # fmt: skip
        """Those that stood still and were in the call. Returns the indexes of the ones that keep their places."""
        epoch, stay, skipped = dispatch.epoch, set[int](), set(result.skipped)
        at_entry = {row.index: row for row in rows if self._at_entry(dispatch, row)}
        gone: set[Ticket] = set()
        for index, ticket in dispatch.tickets.items():
            row, root = at_entry.get(index), epoch.roots[dispatch.slots[index]]
            queues.add(self._parking.queue(ticket))
            if index in skipped and not ticket.node:
                epoch.standing[dispatch.slots[index]] = ticket
            elif root in not_begun:
                stay.add(index)
                self.undo(epoch, root)
            elif row is not None and ticket.node:
                stay.add(index)
                if not row.behind:
                    before = epoch.tickets[ticket]
                    parked = self._parked(epoch, dispatch.slots[index], row, now)
                    parked = msgspec.structs.replace(
                        parked, since=before.since, error=parked.error or before.error,
                        falls=max(parked.falls, before.falls if row.closed else 0),
                    )  # fmt: skip
                    epoch.pending.parked[ticket] = parked
                    wanted[ticket] = parked.due
            elif ticket not in gone:
                gone.add(ticket)
                if index in skipped:
                    epoch.passed_over.add(root)
                self._parking.remove(ticket)
                epoch.pending.parked[ticket] = None
                for slot in [slot for slot, other in epoch.standing.items() if other == ticket]:
                    del epoch.standing[slot]
        return stay

    def _at_entry(self, dispatch: Dispatch, row: Failed) -> bool:
        """It stopped at the node by which it entered the unit, as it came."""
        call = dispatch.call
        if row.node != call.nodes[row.index] or row.path or row.data is not None:
            return False
        return self._waves[call.unit] or row.hops == (call.hops[row.index] if call.hops else 0) + 1

    def _parked(self, epoch: Epoch, slot: int, row: Failed, now: int, *, begun: bool = True) -> Parked:
        root, run = epoch.roots[slot], epoch.runs[slot]
        assert run is not None
        came, headers, entry = epoch.came(root)
        changed = row.data is not None or epoch.blobs[slot] is not epoch.blobs[root]
        data: bytes | None = epoch.blobs[slot] if row.data is None else row.data
        type = type_name(self._plan.types[row.type].type) if changed else entry.type if entry else ""
        back = entry if not begun and entry is not None and entry.node else None
        if data == TOMBSTONE and not changed:
            data = None
        if epoch.types[slot] == self._plan.firing_type and not (row.behind or row.closed):
            data = as_taken(data)
        request, reply = epoch.replies.get(root, ("", ""))
        return Parked(
            id=epoch.event_id(slot, row.path), key=run.key, source=epoch.source(root), time=epoch.times[root],
            data=data, type=type, headers=headers, original=None if changed or came == data else came,
            visits=row.hops if back is None else back.visits, request=request, reply=reply,
            reason=row.reason if row.reason in _TOLD else RETRY,
            attempts=row.attempts, error=row.error, since=now, due=0 if row.behind else now + (row.wait or 0),
            depth=len(epoch.path(slot)) + len(row.path),
            timer=epoch.firings[root][0].member if row.node < 0 and root in epoch.firings else "", falls=row.falls,
            enters="" if back is None else back.node,
        )  # fmt: skip
