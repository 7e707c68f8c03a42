"""The core of a partition: records and results in, instructions out. No clock, no socket, no threads.

Whoever drives it (the worker, the test kit) does what `instructions` says, in that order, and tells how
it went: `loaded`, `finished`, `lost`, `committed`. Everything in it belongs to one tenure of one owner;
after a roll-back or a fence it is thrown away.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import msgspec

from .calls import CallResult
from .commit import Answer, DeadLetter, Head
from .dispatch import Dispatcher
from .epoch import Epoch
from .errors import HeadraceError
from .instructions import Instruction, Limits, Load, Recall
from .intake import SourceIntake, Taken
from .keyspace import partition_of
from .packing import Packer
from .parking import PARKED, Parked, Parking, Ticket, as_records
from .parking import decode as decode_parked
from .plan import SINK, Plan
from .program import is_sink, unit_programs
from .records import Records
from .reentry import Way, taken_back, way_of
from .router import Router
from .runs import RUNNING, STATUS_FIELD, RunRecord, RunTable
from .saving import CommitBuilder
from .standing import Standing
from .traced_epoch import begin_traces, end_traces
from .tracing import Tracer
from .transfers import MOST_HOPS, Misplaced


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
        self.router = Router(self)
        self.dispatcher = Dispatcher(plan, self.programs, partition, head.owner, self.router.open, self.parking)
        self.builder = CommitBuilder(plan, self.runs, head, self.limits.retention, self.parking)
        self.epochs: deque[Epoch] = deque()
        self.ended = bool(head.counters.get("ended"))
        """The unkeyed workflow's run has ended (committed or about to be): nothing more is taken."""
        self.positions = dict(head.positions)
        """Committed positions, by origin."""
        self.run_count = head.counters.get("runs", 0)
        self.events_done = 0
        self.dead_count = 0
        self.moved: Counter[str] = Counter()
        """Events that were sent on to the partitions of their keys, by source."""
        self._instructions: deque[Instruction] = deque()
        self._intakes = [SourceIntake(plan, source, event_cap=self.limits.event_cap) for source in plan.sources]
        self._saving = False
        self._epoch_count = 0
        self._recalled: list[Ticket] = []
        """Events that stood still and are under way."""
        self.draining = False
        """Nothing that stands still goes on any more: another owner is to have it."""

    @property
    def idle(self) -> bool:
        """Nothing is in flight."""
        return not (self.epochs or self._recalled)

    @property
    def wants_records(self) -> bool:
        """Another epoch may begin."""
        return not self.ended and len(self.epochs) < self.limits.epochs_in_flight and not self.parking_full

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
        """When there is something to do, should nothing happen before: milliseconds since 1970 UTC."""
        return None if self._recalled or self.draining or self.ended else self.parking.next_due()

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
        self._epoch_count += 1
        epoch = Epoch(self._epoch_count, len(self.plan.regions))
        epoch.began = now
        for records in batches:
            self._take(epoch, records, now)
        epoch.count = len(epoch.runs)
        epoch.roots = list(range(epoch.count))
        for run in epoch.touched:
            run.busy += 1
        self.epochs.append(epoch)
        if epoch.missing:
            self._instructions.append(Load(list(epoch.missing)))
        self.advance(now)

    def recalled(self, tickets: Sequence[Ticket], blobs: Sequence[bytes | None], now: int) -> None:
        """The store's answer to `Recall`: events that stood still, in the order asked; they go on in an epoch."""
        sources = {source.name: source.index for source in self.plan.sources}
        rows: list[tuple[Ticket, Parked]] = []
        for ticket, blob in zip(tickets, blobs, strict=True):
            if blob is None:
                raise HeadraceError(f"the store does not have the event that stands still as {ticket.field}")
            rows.append((ticket, decode_parked(blob)))
        self.offer(as_records(rows, sources), now)

    def end(self, outcome: str, reason: object, now: int) -> None:
        """End the run of an unkeyed workflow from outside, behind everything that was offered so far.

        Args:
            outcome: `source closed`, ...
            reason: Kept as its result; anything that JSON can carry.
            now: Milliseconds since 1970 UTC.
        """
        self._epoch_count += 1
        epoch = Epoch(self._epoch_count, len(self.plan.regions))
        run = self.runs.get("") or self.runs.add("")
        if run.loading:
            epoch.missing.add("")
            self._instructions.append(Load([""]))
        epoch.touched.add(run)
        run.busy += 1
        epoch.finale = (outcome, msgspec.json.encode(reason).decode())
        self.epochs.append(epoch)
        self.advance(now)

    def bury(self, letters: Sequence[DeadLetter], counters: Mapping[str, int], now: int) -> None:
        """Commit dead letters of events that have left the graph: a sink refused them for good.

        Args:
            letters: In the order of their outputs.
            counters: Fields of the head that say so: see `Commit.counters`.
            now: Milliseconds since 1970 UTC.
        """
        self._epoch_count += 1
        epoch = Epoch(self._epoch_count, len(self.plan.regions))
        for letter in letters:
            self.router.dead(epoch, -1, (), letter)
        epoch.counters.update(counters)
        self.epochs.append(epoch)
        self.advance(now)

    def loaded(self, keys: Sequence[str], found: Sequence[Mapping[str, bytes]], now: int) -> None:
        """The store's answer to `Load`: the hashes of these runs, empty for one that it does not have."""
        for key, fields in zip(keys, found, strict=True):
            run = self.runs.get(key)
            if run is None or not run.loading:
                continue
            if not fields:
                self._begin(run, replaces=False)
            elif fields[STATUS_FIELD] == RUNNING.encode():
                self.dispatcher.calls += 1
                self.runs.restore(run, fields, self.dispatcher.calls)
            elif self.plan.keyed:
                self._begin(run, replaces=True)
            else:
                run.loading, run.ended, self.ended = False, True, True
        done = set(keys)
        for epoch in self.epochs:
            epoch.missing -= done
        self.advance(now)

    def _begin(self, run: RunRecord, *, replaces: bool) -> None:
        self.run_count += 1
        self.runs.begin(run, self.run_count, replaces=replaces)

    def successor(self, epoch: Epoch, run: RunRecord) -> RunRecord:
        """The run that takes over the key of one that ended: its number is the next, its states are new."""
        while run.next is not None:
            run = run.next
        new = run
        if run.ended:
            new = run.next = self.runs.add(run.key)
            new.busy += 1
            self._begin(new, replaces=True)
        if new not in epoch.touched:
            epoch.touched.add(new)
            new.busy += 1
        return new

    def advance(self, now: int) -> None:
        """Whatever can go on now does: epochs enter, calls start, a finished epoch is to be saved."""
        self.router.now = now
        self._recall(now)
        earlier_done = True
        for epoch in self.epochs:
            if not epoch.entered:
                if epoch.missing or (self.plan.serial and not earlier_done):
                    break
                epoch.entered = True
                self.router.enter(epoch)
            earlier_done = earlier_done and epoch.done
            if earlier_done and epoch.save is None:
                epoch.save = self.builder.build(epoch, self.run_count, now)
        self._instructions.extend(self.dispatcher.start(self.epochs, now))
        if not self._saving and self.epochs and self.epochs[0].save is not None:
            self._saving = True
            self._instructions.append(self.epochs[0].save)

    def _recall(self, now: int) -> None:
        """Let those that are due go on: some of them at a time, beside an epoch of the sources' events."""
        if len(self.epochs) <= self.limits.epochs_in_flight and (due := self.wakes_at) is not None and due <= now:
            self._recalled = self.parking.take(now, self.limits.recall)
            self._instructions.append(Recall(self._recalled))

    def finished(self, result: CallResult, now: int) -> None:
        """The result of a call has come. One that nobody waits for (any more) is ignored."""
        place = (result.unit, result.replica)
        dispatch = self.dispatcher.busy.get(place)
        if dispatch is None or dispatch.call.number != result.number or result.owner != self.owner:
            return
        if result.need is not None:
            self._instructions.append(self.dispatcher.again(dispatch, result.need))
            return
        del self.dispatcher.busy[place]
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
        if epoch.tickets:
            self.parking.committed(self._recalled)
            self._recalled = []
        self.parking.committed(epoch.pending.parked)
        self.moved.update(row.source for row in misplaced)
        self.runs.release(epoch.touched)
        if epoch.traces and self.tracer is not None:
            end_traces(self.tracer, epoch)
        if epoch.cut is not None:
            self.epochs.clear()  # the run has ended: what was offered behind it is not processed
        self.advance(now)
        return True

    def _take(self, epoch: Epoch, records: Records, now: int) -> None:
        name = records.unknown or self.plan.sources[records.source].name
        first = len(epoch.runs)
        way: Way | None = None
        if records.entry is not None:
            way = way_of(self.plan, self.programs, records, records.entry)
            taken = taken_back(records, way)
            targets, type = way.targets, way.type
            if way.hops:
                epoch.hops.update(dict.fromkeys(range(first, first + len(records)), way.hops))
        elif records.source >= 0:
            source = self.plan.sources[records.source]
            taken, targets, type = self._intakes[records.source].take(records), source.targets, source.type
        else:
            taken, targets, type = Taken.unknown(records), (), -1
        epoch.records.append(records)
        epoch.targets.append((first, first + len(records), name, targets))
        runs = {key: None if key is None else self._run_of(key) for key in dict.fromkeys(taken.keys)}
        epoch.runs += map(runs.__getitem__, taken.keys)
        touched = [run for run in runs.values() if run is not None]
        epoch.missing.update(run.key for run in touched if run.loading)
        epoch.touched.update(touched)
        if len(touched) < len(runs):
            for index, key in enumerate(taken.keys):
                if key is not None and runs[key] is None:
                    self._send_on(epoch, taken, index)
        for index, reason, error in taken.bad:
            self.router.dead(epoch, first + index, (), taken.letter(name, index, reason, error, now))
        self._columns(epoch, taken, type)
        if records.standing is not None:
            self._goes_on(epoch, first, records.standing, taken, now)
        if self.tracer is not None:
            begin_traces(self.tracer, epoch, taken, name)
        if way is not None and is_sink(way.targets):
            self.router.emitter.resend(epoch, first, records, way.targets[0] - SINK)

    def _goes_on(
        self, epoch: Epoch, first: int, standing: Sequence[tuple[Ticket, Parked]], taken: Taken, now: int
    ) -> None:
        """Events from the slot `first` on stood still until now."""
        for index, (ticket, parked) in enumerate(standing):
            epoch.tickets[ticket] = parked
            epoch.standing[first + index] = epoch.roots_of[first + index] = ticket
        self.standing.gone_on(epoch, [first + index for index, *_ in taken.bad], now)

    def _run_of(self, key: str) -> RunRecord | None:
        run = self.runs.get(key)
        if run is None and (not self.plan.keyed or partition_of(key, self.partitions) == self.partition):
            run = self.runs.add(key)
        return run

    def _send_on(self, epoch: Epoch, taken: Taken, index: int) -> None:
        """A record's key belongs to another partition: it goes there with this epoch's commit."""
        records, key = taken.records, taken.keys[index]
        assert key is not None
        if records.hops is not None and records.hops[index] >= MOST_HOPS:
            error = f"its key is another one each time that it is taken from the data, now {key!r}"
            taken.bad.append((index, "key", error))
            return
        name = records.unknown or self.plan.sources[records.source].name
        epoch.pending.misplaced.append(Misplaced(records, index, name, key, partition_of(key, self.partitions)))

    def _columns(self, epoch: Epoch, taken: Taken, type: int) -> None:
        records, data = taken.records, taken.data if taken.decoded else None
        count = len(records)
        before = len(epoch.blobs)
        epoch.types += [type] * count
        epoch.blobs += taken.values  # type: ignore[arg-type]  # None only where the record was bad
        epoch.times += taken.times
        epoch.origins.append("" if records.ids else records.identity)
        epoch.origin_of += [len(epoch.origins) - 1] * count
        epoch.offsets += records.ids or records.offsets
        if records.headers is not None or epoch.headers is not None:
            epoch.headers = (epoch.headers or [()] * before) + (records.headers or [()] * count)
        if records.replies is not None:
            ids = records.ids or records.offsets
            epoch.replies.update(
                {before + index: (str(ids[index]), channel) for index, channel in enumerate(records.replies) if channel}
            )
        if records.requests is not None:
            epoch.replies.update({before + index: asked for index, asked in enumerate(records.requests) if asked})
        if before == 0:
            epoch.data = list(data) if data is not None else None
        elif epoch.data is not None:
            epoch.data = [*epoch.data, *data] if data is not None else None
