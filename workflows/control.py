"""What people ask of a run from outside: that it ends, or that nothing of it is kept.

It comes by a stream of its own, so that it passes by all that waits: backlogs, events that stand still, a partition
that takes no more of them. It is an epoch like any other, committed in its turn, but without events: it enters once
all that was offered before it is done. So nothing of the run is under way when it ends, and what comes after belongs to
the next run of the key, or is late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from .answering import deleted
from .epoch import End, Epoch
from .keyspace import CONTROL
from .parking import Ticket
from .records import Records
from .runs import RunRecord

if TYPE_CHECKING:
    from .partition import PartitionCore

TERMINATED: Final = "terminated"
"""Outcome of a run that was ended from outside, or by `Terminate`."""


class ControlEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is asked of one run."""

    kind: Literal["terminate", "delete"]
    key: str
    number: int = 0
    """Of the run that is meant: if another one has its key by now, nothing is done; 0: whichever there is."""
    reason: str = "null"
    """JSON text: what the run has as its result."""


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(ControlEvent).decode


def as_records(entries: Sequence[tuple[str, bytes]]) -> Records:
    """Entries of a control stream (id, and event) as its owner's core takes them."""
    ids = [id_ for id_, _ in entries]
    return Records(-1, CONTROL, ids, [0] * len(ids), [None] * len(ids), [blob for _, blob in entries], ids[-1])


class Control:
    """Does to the runs of one partition what is asked from outside."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._epochs = 0
        """Offered, and not committed."""
        self._void: set[Ticket] = set()
        """Events of runs that were ended here while somebody fetched them from where they stood still."""

    @property
    def wanted(self) -> bool:
        """It may be offered: also while no events are, as too many of them stand still."""
        return not self._core.ended and not self._epochs

    @property
    def is_near(self) -> bool:
        """Something of it is not committed: runs that are held may have ended."""
        return self._epochs > 0

    def offer(self, batches: Sequence[Records], now: int) -> None:
        """Begin an epoch that does what these records ask for; each has a `ControlEvent` as its value.

        Args:
            batches: What the stream gave.
            now: Milliseconds since 1970 UTC, by the store's clock.
        """
        core = self._core
        asked = [decode(value) for records in batches for value in records.values if value is not None]
        if not core.plan.keyed:
            reason = next((row.reason for row in asked if row.kind == "terminate"), None)
            if reason is not None:
                core.end(TERMINATED, msgspec.Raw(reason.encode()), now, hasty=True)
                core.haste.void([("", 0)])
                return
        epoch = core.new_epoch(now)
        epoch.records += batches
        epoch.control, epoch.waits, epoch.hasty = asked, True, True
        self._epochs += 1
        for key in dict.fromkeys(row.key for row in asked if core.plan.keyed):
            run = core.runs.get(key) or core.runs.add(key)
            if run.loading:
                epoch.missing.add(key)
            epoch.touched.add(run)
        core.begin(epoch, now)
        core.haste.void([(row.key, row.number) for row in asked if core.plan.keyed])

    def concerns(self, key: str) -> bool:
        """Something that is near asks it of this key: a run of it begins only once an event comes that is its own."""
        return self.is_near and any(row.key == key for epoch in self._core.epochs for row in epoch.control)

    def enter(self, epoch: Epoch) -> None:
        """Do it. Nothing is in flight now that was offered before."""
        for event in epoch.control:
            run = self._core.runs.get(event.key)
            if run is None:
                continue
            if event.kind == "delete":
                self._delete(epoch, run)
            elif not (run.ended or run.absent) and event.number in (0, run.number):
                self._terminate(epoch, run, event.reason)

    def committed(self, epoch: Epoch) -> None:
        """An epoch is in the store."""
        self._epochs -= epoch.waits and epoch.finale is None

    def settled(self, tickets: Iterable[Ticket]) -> None:
        """These events are no longer being fetched from where they stood still."""
        self._void.difference_update(tickets)

    def is_void(self, ticket: Ticket) -> bool:
        """The run of an event that is fetched from where it stood still has been ended meanwhile."""
        return ticket in self._void

    def misses(self, tickets: Sequence[Ticket], blobs: Sequence[bytes | None]) -> bool:
        """Some of these events are not in the store, and not as their runs have been ended: it has lost its tail."""
        if self._core.ended:  # all that stood still went with the run of an unkeyed workflow
            return False
        return not all(blob is not None or self.is_void(ticket) for ticket, blob in zip(tickets, blobs, strict=True))

    def leave_out(self, epoch: Epoch) -> None:
        """Events that are void do not enter."""
        for slot in [slot for slot, ticket in epoch.standing.items() if ticket in self._void]:
            del epoch.standing[slot]
            epoch.runs[slot] = None

    def _terminate(self, epoch: Epoch, run: RunRecord, reason: str) -> None:
        void = self._core.parking.of_run(run.key)
        self._touch(epoch, run)
        self._core.router.end(epoch, run, End(TERMINATED, reason, -1, (), void=len(void)))
        self._set_void(void)

    def _delete(self, epoch: Epoch, run: RunRecord) -> None:
        """Nothing of the key stays, neither of a run that ended nor of one that goes on; nor what has not begun."""
        core = self._core
        run.ended, run.forgotten, run.absent = True, True, False
        self._touch(epoch, run)
        epoch.pending.erased.append(run)
        void = core.parking.of_key(run.key) + core.parking.kept_of(run.key)
        core.standing.remove(epoch, void, core.router.now)
        epoch.pending.answers += [(-1, *row) for row in deleted(void)]
        self._set_void(void)

    def _set_void(self, tickets: Sequence[Ticket]) -> None:
        self._void.update(ticket for ticket in tickets if ticket in self._core.recalling.under_way)

    @staticmethod
    def _touch(epoch: Epoch, run: RunRecord) -> None:
        """It may have taken its key over since the epoch was offered."""
        if run not in epoch.touched:
            epoch.touched.add(run)
            run.busy += 1
