"""Where runs stand: which events go on from a wait, and which are kept until their run gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from .codec import TOMBSTONE
from .commit import DeadLetter
from .epoch import Epoch, Item
from .error_words import in_words
from .errors import HeadraceError
from .inner_places import STANDS, WAIT_PLACE
from .parking import is_kept, kept_before
from .plan import ARRIVALS, OVERS, WAITS, StandPlan, Target, WaitPlan
from .runs import RunRecord
from .timers import Stand, timers_of
from .wait_claims import TAKEN, TAKEN_ERROR, claim_of, wait_id

if TYPE_CHECKING:
    from .partition import PartitionCore

NO_RUN: Final = "no-run"
"""Reason of the dead letter of a message whose run is not there, or has ended."""
KEPT_FULL: Final = "kept-full"
"""The same, where so many are kept for the run already."""


class Waiting:
    """Decides, event by event of a run, for one partition."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._plan = core.plan
        self._names = [source.name for source in core.plan.sources]

    def is_message(self, target: Target) -> bool:
        """What arrives begins no run, and can be kept."""
        return ARRIVALS >= target > OVERS and ARRIVALS - target in self._plan.messages

    def passes(self, run: RunRecord, target: Target) -> bool:
        """The event is what its run stands at a wait for: it goes ahead of those that stand still."""
        if target <= OVERS or target in self._plan.urgent:
            return True
        return target <= ARRIVALS and self._awaits(run, ARRIVALS - target) is not None

    def _awaits(self, run: RunRecord, source: int) -> WaitPlan | StandPlan | None:
        """The wait on this source that the run stands at, or an inner run of it: the first one as they are written."""
        wait = self._plan.wait(run.stand.wait)
        if wait is not None and wait.source == source:
            return wait
        rows = [row for row in self._plan.stands if row.source == source]
        if not rows:
            return None
        timers = timers_of(run.timers)
        return next((row for row in rows if timers.has(row.name, STANDS)), None)

    def timers_set(self, epoch: Epoch, run: RunRecord, blob: bytes | None, now: int) -> None:
        """A call has set a run's timers, and so at which waits its inner runs stand: what is kept for those goes on.

        Args:
            epoch: That of the call.
            run: Whose they are.
            blob: All of its timers.
            now: Milliseconds since 1970 UTC.
        """
        before, run.timers = run.timers, blob
        epoch.pending.timers[run] = blob
        if not self._plan.stands:
            return
        was, is_ = timers_of(before).set_, timers_of(blob).set_
        for row in self._plan.stands:
            stand = is_.get(row.name, {}).get(STANDS)
            if stand is not None and stand != was.get(row.name, {}).get(STANDS):
                self._core.standing.release(epoch, kept_before(self._names[row.source]), run.key, now)

    def step(self, epoch: Epoch, slot: int, run: RunRecord, target: Target, now: int) -> list[Item]:
        """An event has come to a wait, or is its run's next one: where that leads.

        Args:
            epoch: Its epoch.
            slot: The event.
            run: Its run.
            target: What is to be decided, see `plan.WAITS`, `ARRIVALS`, `OVERS`.
            now: Milliseconds since 1970 UTC.
        """
        if target > ARRIVALS:
            self._reach(epoch, slot, run, WAITS - target, now)
            return []
        if target > OVERS:
            return self._arrive(epoch, slot, run, ARRIVALS - target, now)
        return self._is_over(epoch, slot, run, OVERS - target, now)

    def _reach(self, epoch: Epoch, slot: int, run: RunRecord, index: int, now: int) -> None:
        """The run stands at a wait from here on."""
        wait = self._plan.waits[index]
        self._core.standing.gone_on(epoch, (slot,), now)
        due = 0 if wait.after is None else now + wait.after
        self._stand(epoch, slot, run, Stand(wait.name, run.stand.generation + 1, now, due))
        self._core.standing.release(epoch, kept_before(self._names[wait.source]), run.key, now)

    @staticmethod
    def _stand(epoch: Epoch, slot: int, run: RunRecord, stand: Stand) -> None:
        for root in epoch.replies.keys() & epoch.flows[0].begun if epoch.replies and 0 in epoch.flows else ():
            if epoch.runs[root] is run and root != epoch.roots[slot]:
                epoch.stood.setdefault(root, run.stand)
        run.stand = epoch.pending.stands[run] = stand

    def _leave(self, epoch: Epoch, slot: int, run: RunRecord) -> None:
        self._stand(epoch, slot, run, Stand("", run.stand.generation))

    def _arrive(self, epoch: Epoch, slot: int, run: RunRecord, source: int, now: int) -> list[Item]:
        standing, parking, router = self._core.standing, self._core.parking, self._core.router
        queue = kept_before(self._names[source])
        ticket = epoch.standing.get(slot)
        of = epoch.tickets[ticket].run if ticket is not None and is_kept(ticket) else run.number
        is_message = source in self._plan.messages
        if is_message and (run.absent or run.ended or of != run.number):
            self.refuse(epoch, slot, NO_RUN, "there is no such run, or it has ended")
            standing.gone_on(epoch, (slot,), now)
            standing.release(epoch, queue, run.key, now)
            return []
        wait = self._awaits(run, source)
        if is_message and self._is_too_late(epoch, slot, run, wait):
            self.refuse(epoch, slot, TAKEN, TAKEN_ERROR)
            standing.gone_on(epoch, (slot,), now)
            standing.release(epoch, queue, run.key, now)
            return []
        if wait is not None and parking.is_first(queue, run.key, ticket):
            standing.gone_on(epoch, (slot,), now)
            if (error := self._unread(epoch, slot)) is not None:  # it is no event, so the run still waits for one
                self.refuse(epoch, slot, *in_words(error))
                standing.release(epoch, queue, run.key, now)
                return []
            if isinstance(wait, StandPlan):
                return [(slot, wait.arrival)]
            self._leave(epoch, slot, run)
            return router.resolve(epoch, slot, wait.targets)
        if not is_message:
            return router.resolve(epoch, slot, self._plan.sources[source].targets)
        if parking.length(queue, run.key) >= self._core.limits.kept_of_run:
            self.refuse(epoch, slot, KEPT_FULL, "so many messages are kept for the run already")
        else:
            standing.keep(epoch, slot, queue, now)
        return []

    def _unread(self, epoch: Epoch, slot: int) -> Exception | None:
        """Why nobody can read the data of what has come, if so."""
        blob = epoch.blobs[slot]
        if blob == TOMBSTONE:
            return None
        try:
            self._plan.types[epoch.types[slot]].codec.decode(blob)
        except (msgspec.MsgspecError, HeadraceError, ValueError, RecursionError) as error:
            return error
        return None

    def _is_too_late(self, epoch: Epoch, slot: int, run: RunRecord, wait: WaitPlan | StandPlan | None) -> bool:
        """The message is for one time that its run stood at a wait, and that is over."""
        claim = claim_of(epoch.headers[epoch.roots[slot]]) if epoch.headers else ""
        if not claim:
            return False
        if wait is None:
            return True
        if isinstance(wait, StandPlan):
            generation, _ = timers_of(run.timers).set_[wait.name][STANDS]
            return claim != wait_id(run.number, generation, wait.name.removesuffix(WAIT_PLACE))
        return claim != wait_id(run.number, run.stand.generation)

    def _is_over(self, epoch: Epoch, slot: int, run: RunRecord, index: int, now: int) -> list[Item]:
        wait, stand = self._plan.waits[index], run.stand
        self._core.standing.gone_on(epoch, (slot,), now)
        due, _ = epoch.firings[epoch.roots[slot]]
        if self._plan.wait(stand.wait) is not wait or stand.generation != due.generation or run.number != due.number:
            return []
        self._leave(epoch, slot, run)
        return self._core.router.resolve(epoch, slot, wait.over)

    def refuse(self, epoch: Epoch, slot: int, reason: str, error: str) -> None:
        """A message is a dead letter: its run can't have it."""
        root, run = epoch.roots[slot], epoch.runs[slot]
        value, headers, entry = epoch.came(root)
        letter = DeadLetter(
            id=epoch.event_id(root), key=run.key if run else "", source=epoch.source(root), node=None, reason=reason,
            error=error, time=self._core.router.now, event_time=epoch.times[root], data=value, headers=headers,
            reentry=entry if entry is not None and (entry.node or entry.type) else None,
        )  # fmt: skip
        self._core.router.dead(epoch, root, epoch.path(slot), letter)
