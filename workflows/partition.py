"""The core of a partition: records and results in, instructions out. No clock, no socket, no threads.

Whoever drives it (the worker, the test kit) does what `instructions` says, in that order, and tells how
it went: `loaded`, `finished`, `lost`, `committed`. Everything in it belongs to one tenure of one owner;
after a roll-back or a fence it is thrown away.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import msgspec

from .admission import Admission
from .beginnings import Beginnings
from .calls import CallResult
from .closing import Closing
from .commit import Answer, DeadLetter, Head
from .control import Control
from .dispatch import Dispatcher
from .epoch import Epoch
from .evicting import Evicting
from .executing import Executing
from .haste import Haste
from .instructions import Instruction, Limits, Load, Recall, Ring, Tell
from .late import LateEvents
from .packing import Packer
from .parking import PARKED, Parking, Ticket
from .plan import Plan
from .program import unit_programs
from .recalling import Recalling
from .records import Records
from .router import Router
from .runs import RunTable
from .saving import CommitBuilder
from .soon import Soon
from .standing import Standing
from .timekeeping import Timekeeping
from .traced_epoch import end_traces
from .tracing import Tracer
from .waiting import Waiting


class PartitionCore:
    """One partition of one workflow, as its owner runs it."""

    def __init__(
        self,
        plan: Plan,
        partition: int,
        partitions: int,
        head: Head,
        limits: Limits | None = None,
        packers: Mapping[int, Packer] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.plan = plan
        self.partition = partition
        self.partitions = partitions
        self.owner = head.owner
        self.limits = limits or Limits()
        self.packers = packers or {}
        """By sink: what makes its messages, where they are not plain JSON under the run's key."""
        self.tracer = tracer
        """Begins the traces of events, and gets those that are committed; None: nothing is traced."""
        self.programs = unit_programs(plan)
        self.runs = RunTable(plan, self.programs, self.limits.held_runs)
        self.parking = Parking(
            serial=plan.serial,
            last=head.counters.get(PARKED, 0),
            fields=head.parked,
            due=head.due,
            renamed={former: node.name for node in plan.nodes for former in node.renamed_from},
        )
        self.standing = Standing(self, self.parking)
        self.waiting = Waiting(self)
        self.evicting = Evicting(self)
        self.recalling = Recalling(self)
        self.control = Control(self)
        self.late = LateEvents(self)
        self.router = Router(self)
        self.soon = Soon(plan, self.programs, self.limits)
        self.dispatcher = Dispatcher(
            plan, self.programs, partition, head.owner, self.router.open, self.parking, self.soon, self.runs
        )
        self.closing = Closing(self)
        self.executing = Executing(self)
        self.haste = Haste(self)
        self.time = Timekeeping(self, head)
        self.builder = CommitBuilder(plan, self.runs, head, self.parking, self.time, partitions)
        self.epochs: deque[Epoch] = deque()
        self.ended = bool(head.counters.get("ended"))
        """The unkeyed workflow's run has ended (committed or about to be): nothing more is taken."""
        self.positions = dict(head.positions)
        """Committed positions, by origin."""
        self.beginnings = Beginnings(self, head.counters.get("runs", 0))
        self.events_done = 0
        self.dead_count = 0
        self.moved: Counter[str] = Counter()
        """Events that were sent on to the partitions of their keys, by source."""
        self._instructions: deque[Instruction] = deque()
        self.admission = Admission(self)
        self._saving = False
        self._epoch_count = 0
        self.draining = False
        """Nothing that stands still goes on any more: another owner is to have it."""

    @property
    def idle(self) -> bool:
        """Nothing is in flight."""
        return not (self.epochs or self.recalling.under_way)

    @property
    def wants_records(self) -> bool:
        """Another epoch may begin."""
        return self._may_begin(most=self._most_epochs)

    @property
    def wants_requests(self) -> bool:
        """The same for one of requests alone: one more than of others, as somebody waits for it."""
        return self._may_begin(most=self._most_epochs + 1)

    def _may_begin(self, *, most: int) -> bool:
        return not self.ended and len(self.epochs) < most and not self.parking_full

    @property
    def larger(self) -> int:
        """Times that an epoch may be larger than otherwise."""
        return self.soon.larger

    @property
    def _most_epochs(self) -> int:
        return self.limits.epochs_in_flight + self.soon.more_epochs

    @property
    def _may_recall(self) -> bool:
        """One epoch more than that may be of events that stood still: they must get out of the way."""
        return len(self.epochs) <= self._most_epochs

    @property
    def parked(self) -> int:
        """Events that stand still."""
        return self.parking.count

    @property
    def parking_full(self) -> bool:
        """So many events stand still that no more are taken from sources."""
        parking, limits = self.parking, self.limits
        return parking.count >= limits.parked or parking.longest >= limits.parked_of_key

    @property
    def wakes_at(self) -> int | None:
        """When there is something to do, should nothing happen before: milliseconds since 1970 UTC.

        What is due but has to wait until an epoch is done does not count: that is told, and it must not hide what
        those epochs wait for.
        """
        soon = self.soon.next_due
        times = (self.recalling.due if self._may_recall else None, soon, self.haste.due)
        return min((time for time in times if time is not None), default=None)

    @property
    def timers_at(self) -> int | None:
        """When something of a run is due (milliseconds since 1970 UTC), and may be asked for by `ring`.

        That is to be done once all that sources had at some later time has been offered.
        """
        return None if len(self.epochs) > self.limits.epochs_in_flight else self._of_time(self.time.next_due)

    @property
    def timers_ahead(self) -> int | None:
        """The same, where it may not be asked for yet: epochs before have to be done first."""
        return self._of_time(self.time.following)

    def _of_time(self, due: int | None) -> int | None:
        return None if self.ended or self.draining else due

    def instructions(self) -> list[Instruction]:
        """What is to be done now; each instruction is given once."""
        taken = list(self._instructions)
        self._instructions.clear()
        return taken

    def offer(self, batches: Sequence[Records], now: int) -> None:
        """Begin an epoch with these records, in this order (one origin may come once).

        Args:
            batches: What the sources gave.
            now: Milliseconds since 1970 UTC, by the store's clock.
        """
        epoch = self.new_epoch(now)
        for records in batches:
            self.admission.take(epoch, records, now)
        epoch.count = len(epoch.runs)
        epoch.roots = list(range(epoch.count))
        self.begin(epoch, now)

    def new_epoch(self, now: int) -> Epoch:
        """One that is to be filled."""
        self._epoch_count += 1
        epoch = Epoch(self._epoch_count, len(self.plan.regions))
        epoch.began = now
        return epoch

    def begin(self, epoch: Epoch, now: int) -> None:
        """All that an epoch has at first is in it: it goes its way behind those before it."""
        for run in epoch.touched:
            run.busy += 1
        epoch.late = self.late.matter or self.control.is_near or self.executing.is_near
        if self.epochs and self.epochs[-1].late and not epoch.late:
            epoch.late = any(run.ended for run in epoch.touched)
        self.epochs.append(epoch)
        if epoch.missing:
            self._instructions.append(Load(list(epoch.missing)))
        self.advance(now)

    def recalled(self, tickets: Sequence[Ticket], blobs: Sequence[bytes | None], now: int) -> None:
        """The store's answer to `Recall`: events that stood still, in the order asked; they go on, or make room."""
        self.recalling.came(tickets, blobs, now)

    def end(self, outcome: str, reason: object, now: int, *, hasty: bool = False) -> None:
        """End the run of an unkeyed workflow from outside, behind everything that was offered so far.

        Args:
            outcome: `source closed`, ...
            reason: Kept as its result; anything that JSON can carry.
            now: Milliseconds since 1970 UTC.
            hasty: Calls that are under way are not waited for long.
        """
        epoch = self._epoch_of_the_run(now)
        epoch.hasty = hasty
        epoch.waits, epoch.finale = True, (outcome, msgspec.json.encode(reason).decode())
        self.begin(epoch, now)

    def open(self, now: int) -> None:
        """The partition has been acquired. The run of an unkeyed workflow begins now, if it may time out.

        Args:
            now: Milliseconds since 1970 UTC, by the store's clock.
        """
        if self.plan.timeouts and not (self.plan.keyed or self.ended):
            self.begin(self._epoch_of_the_run(now), now)

    def _epoch_of_the_run(self, now: int) -> Epoch:
        """An epoch without events, for the run of an unkeyed workflow."""
        epoch = self.new_epoch(now)
        run = self.runs.get("") or self.runs.add("")
        run.wanted = True
        self.beginnings.if_absent(run)
        if run.loading:
            epoch.missing.add("")
        epoch.touched.add(run)
        return epoch

    def ring(self, before: int) -> None:
        """Ask for what is due until then: all that sources had at that time has been offered.

        Args:
            before: Milliseconds since 1970 UTC.
        """
        self.time.ask()
        self._instructions.append(Ring(before, self.limits.firings))

    def rang(self, rows: Sequence[tuple[str, int]], following: int | None, now: int) -> None:
        """The store's answer to `Ring`: members of its index with their times, and when the next one is due."""
        batches = self.time.came(rows, following)
        if batches:
            self.offer(batches, now)

    def bury(self, letters: Sequence[DeadLetter], counters: Mapping[str, int], now: int) -> None:
        """Commit dead letters of events that have left the graph: a sink refused them for good.

        Args:
            letters: In the order of their outputs.
            counters: Fields of the head that say so: see `Commit.counters`.
            now: Milliseconds since 1970 UTC.
        """
        epoch = self.new_epoch(now)
        for letter in letters:
            self.router.dead(epoch, -1, (), letter)
        epoch.counters.update(counters)
        self.begin(epoch, now)

    def loaded(self, keys: Sequence[str], found: Sequence[Mapping[str, bytes]], now: int) -> None:
        """The store's answer to `Load`: the hashes of these runs, empty for one that it does not have."""
        self.beginnings.loaded(keys, found)
        self.advance(now)

    def advance(self, now: int) -> None:
        """Whatever can go on now does: epochs enter, calls start, a finished epoch is to be saved."""
        self.router.now = now
        self.haste.look(now)
        if self._may_recall and (tickets := self.recalling.take(now)):
            self._instructions.append(Recall(tickets))
        self._enter_and_save(now)
        self._start_calls(now)
        while (first := next((epoch for epoch in self.epochs if epoch.save is None), None)) is not None and first.done:
            # Where its region began, all of it came to an end without a call.
            self._enter_and_save(now)
            self._start_calls(now)
        if not self._saving and self.epochs and self.epochs[0].save is not None:
            self._saving = True
            self._instructions.append(self.epochs[0].save)

    def tell(self, instruction: Tell) -> None:
        """Units are to hear of something beside their calls."""
        self._instructions.append(instruction)

    def _start_calls(self, now: int) -> None:
        calls = self.closing.start(now)
        self._instructions.extend(calls)
        if calls:
            self.haste.began()

    def _enter_and_save(self, now: int) -> None:
        earlier_done = True
        for epoch in self.epochs:
            if not epoch.entered:
                if epoch.missing or ((self.plan.serial or epoch.evicts or epoch.waits) and not earlier_done):
                    break
                epoch.entered = True
                (self.evicting if epoch.evicts else self.router).enter(epoch)
            earlier_done = earlier_done and epoch.done
            if earlier_done and epoch.save is None:
                epoch.save = self.builder.build(epoch, self.beginnings.count, now)
                self.soon.saved = epoch.number
            if epoch.cut is not None:
                break  # nothing behind the end of the workflow enters

    def finished(self, result: CallResult, now: int) -> None:
        """The result of a call has come. One that nobody waits for (any more) is ignored."""
        place = (result.unit, result.replica)
        dispatch = self.dispatcher.busy.get(place)
        if dispatch is None or dispatch.call.number != result.number or result.owner != self.owner:
            if result.owner == self.owner:
                self.haste.late(place, result.number)
            return
        if result.need is not None:
            self._instructions.append(self.dispatcher.again(dispatch, result.need))
            return
        del self.dispatcher.busy[place]
        self.haste.finished(place)
        self.router.now = now
        self.router.finished(dispatch, result, now)
        self.advance(now)

    def lost(self, unit: int, replica: int) -> None:
        """The replica died, or a call to it went astray: what it had in hand is to be sent again, unchanged."""
        dispatch = self.dispatcher.busy.get((unit, replica))
        if dispatch is not None:
            dispatch.attempts += 1
            self._instructions.append(dispatch)

    def committed(self, answer: Answer, now: int) -> bool:
        """The store's answer to `Save`.

        Returns:
            False if this core is to be thrown away: the partition has another owner, another history, or is torn.
        """
        if answer not in (Answer.APPLIED, Answer.ALREADY):
            return False
        epoch = self.epochs.popleft()
        assert epoch.save is not None
        self._saving = False
        self.positions.update(epoch.save.commit.positions)
        misplaced = epoch.pending.misplaced
        self.events_done += (epoch.count if epoch.cut is None else epoch.cut + 1) - len(misplaced) - len(epoch.tickets)
        if self.plan.timed:
            self.time.committed(epoch)
            self.events_done -= len(epoch.firings.keys() - epoch.roots_of.keys())
        self.control.committed(epoch)
        self.executing.committed(epoch)
        if epoch.tickets:
            self.recalling.done(epoch.tickets)
        self.parking.committed(epoch.pending.parked)
        self.moved.update(row.source for row in misplaced)
        self.runs.release(epoch.touched)
        if epoch.traces and self.tracer is not None:
            end_traces(self.tracer, epoch)
        if epoch.cut is not None:
            self.epochs.clear()  # the run has ended: what was offered behind it is not processed
            self.recalling.done(list(self.recalling.under_way))
        self.advance(now)
        return True
