"""From a finished epoch to its commit: the last word on states, positions, outputs, ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Final

from .answering import ended, replies_of
from .calling_back import CallbackWriter
from .calls import Path
from .commit import EVERYBODY, Commit, Head, Output, Reply
from .envelope import encode as encode_answer
from .epoch import Epoch, Pending
from .parking import PARKED, Parking
from .parking import encode as encode_parked
from .plan import Plan
from .records import Records
from .runs import (
    BEGAN_FIELD,
    ENDED_BY_FIELD,
    ENDED_FIELD,
    NUMBER_FIELD,
    RESULT_FIELD,
    RUNNING,
    SHARED_FIELD,
    STATUS_FIELD,
    VOID_FIELD,
    RunRecord,
    RunTable,
)  # fmt: skip
from .timekeeping import Timekeeping
from .transfers import LINK, Numbering
from .values import write_values

_order: Final = itemgetter(0, 1)
"""Sort key of outputs and dead letters: the source's event, and the branches from there."""


@dataclass(slots=True)
class Save:
    """Instruction: commit; answer by `committed`. Asked again, unchanged, until the store has answered."""

    commit: Commit
    first_output: int
    """Sequence of the first of its outputs in the outbox."""
    events: int = 0
    """Events of the epoch."""
    began: int = 0
    """When the epoch was pulled: milliseconds since 1970 UTC."""
    dropped: int = 0
    """Events that came too late and were dropped, as their source says."""
    longest: int = 0
    """Most events that one run had in it, where a run's events go one by one from process to process; else 0."""


class CommitBuilder:
    """Builds the commits of one owner of one partition, with consecutive sequences."""

    def __init__(
        self, plan: Plan, runs: RunTable, head: Head, parking: Parking, time: Timekeeping, partitions: int
    ) -> None:
        self._parking = parking
        self._plan = plan
        self._runs = runs
        self.sequence = head.sequence
        """Of the last commit that was built."""
        self._outbox = head.outbox
        self._time = time
        self._partitions = partitions
        self._now = 0
        self._numbering = Numbering(head.counters)
        self._callbacks = CallbackWriter(plan.name, plan.callback)
        self._by_turns = any(
            region.by_core and not all(plan.units[unit].in_worker for unit in region.units) for region in plan.regions
        )
        self._links = {row.index: row.sink for row in plan.sinks if getattr(row.sink, "kind", "") == LINK}

    def build(self, epoch: Epoch, run_count: int, now: int) -> Save:
        """The commit of an epoch that is done; to be called before a later epoch enters."""
        pending, self._now = epoch.pending, now
        self.sequence += 1
        commit = Commit(self.sequence)
        commit.counters = {"runs": run_count, **epoch.counters}
        self._parked(commit, pending)
        self._positions(commit, epoch)
        if self._plan.timed:
            self._time.write(epoch, commit, self._runs.get, self._start_of)
        self._states(commit, epoch)
        last = len(epoch.runs) if epoch.cut is None else epoch.cut
        if pending.values:
            self._runs.have_values = True
            write_values(epoch, last, commit, self._runs.get, self._start_of)
        if epoch.replies and self._callbacks.register(epoch, last, lambda run: self._start_of(run, commit)):
            self._runs.have_callbacks = True
        self._ends(commit, epoch)
        commit.void = pending.void + [place for root, place in pending.written if root > last]
        commit.sealed = [place for root, place in pending.written if root <= last]
        if pending.values or pending.stands or pending.ended or pending.erased:
            commit.changed = changed_runs(pending)
        commit.outputs = _outputs(pending, last)
        if self._links:
            commit.outputs = [self._linked(output, commit) for output in commit.outputs]
        if pending.misplaced:
            commit.outputs += self._numbering.moved(pending.misplaced, commit.counters)
        if pending.messages:
            rows = sorted(pending.messages, key=_by_root)
            sent = [message for root, message in rows if root <= last]
            commit.outputs += self._numbering.sent(sent, self._partitions, commit.counters)
        commit.dead = [letter for root, _, letter in sorted(pending.dead, key=_order) if root <= last]
        commit.replies = replies_of(epoch, self._parking, self._plan.reply_retention)
        if self._runs.have_callbacks or self._callbacks.always:
            self._callbacks.write(epoch, last, commit, now)
        first = self._outbox + 1
        self._outbox += len(commit.outputs)
        return Save(commit, first, epoch.count, epoch.began, epoch.dropped, self._longest(epoch))

    def _longest(self, epoch: Epoch) -> int:
        if not self._by_turns:
            return 0
        return max(Counter(run for run in epoch.runs[: epoch.count] if run is not None).values(), default=0)

    def _linked(self, output: Output, commit: Commit) -> Output:
        link = self._links.get(output.sink)
        if link is None:
            return output
        return self._numbering.linked(output, self._plan.name, link.name, link.source, commit.counters)

    def _parked(self, commit: Commit, pending: Pending) -> None:
        """What stands still from here on, what no longer does, and when it is to go on."""
        for ticket, parked in pending.parked.items():
            if parked is None:
                commit.unparked.append(ticket.field)
                self._parking.close(ticket)
            else:
                commit.parked[ticket.field] = encode_parked(parked)
        for ticket, due in pending.due.items():
            if pending.parked.get(ticket, True) is None:
                continue
            if due is not None:
                commit.due[ticket.field] = due
            else:
                commit.not_due.append(ticket.field)
        if pending.parked:
            commit.counters[PARKED] = max(self._parking.last, commit.counters.get(PARKED, 0))

    def _positions(self, commit: Commit, epoch: Epoch) -> None:
        first = 0
        for records in epoch.records:
            if records.standing is not None or records.firings is not None:
                first += len(records)
                continue
            if not records.offsets:  # it only tells where the log begins for us
                commit.positions[records.origin] = records.after
                continue
            count = len(records) if epoch.cut is None else min(len(records), epoch.cut + 1 - first)
            first += len(records)
            if count <= 0:
                continue
            commit.positions[records.origin] = _after(records, count)
            if records.positions is None and isinstance(records.offsets[0], str):
                last = str(records.offsets[count - 1])
                commit.trims[records.origin] = (last, count)

    def _states(self, commit: Commit, epoch: Epoch) -> None:
        pending = epoch.pending
        fields = self._runs.fields
        held = self._runs.get
        for run, units in pending.writes.items():
            if held(run.key) is not run:
                continue  # it ended, and another one has its key: the store keeps the latest
            written = [text for unit, blobs in units.items() for text in fields(unit, blobs)]
            if run.former:
                written += self._runs.leave_former(run, units)
            if written:
                self._start_of(run, commit).extend(written)
        for run, blob in pending.shared.items():
            if blob is not None and held(run.key) is run:
                self._start_of(run, commit).extend((SHARED_FIELD, blob.decode()))
        for run in epoch.touched:
            if run.fresh and held(run.key) is run:
                self._start_of(run, commit)

    def _start_of(self, run: RunRecord, commit: Commit) -> list[str]:
        """The fields of a run in the commit; of a new one its status and number are the first."""
        flat = commit.runs.get(run.key)
        if run.fresh:
            run.fresh = False
            flat = commit.runs[run.key] = [
                STATUS_FIELD, RUNNING, NUMBER_FIELD, str(run.number), BEGAN_FIELD, str(self._now),
            ]  # fmt: skip
            if run.replaces and run.key not in commit.fresh:
                commit.fresh.append(run.key)
        elif flat is None:
            flat = commit.runs[run.key] = []
        return flat

    def _ends(self, commit: Commit, epoch: Epoch) -> None:
        for run, end in epoch.pending.ended.items():
            if self._runs.get(run.key) is not run:
                continue
            fields = self._start_of(run, commit)
            fields += (STATUS_FIELD, end.outcome, RESULT_FIELD, end.result, ENDED_FIELD, str(self._now))
            commit.ended_runs[run.key] = run.number
            if end.node:
                fields += (ENDED_BY_FIELD, end.node)
            if end.void:
                fields += (VOID_FIELD, str(end.void))
            if self._plan.keyed:
                commit.ended[run.key] = self._plan.retention
            else:
                commit.counters["ended"] = 1
                commit.farewell = Reply("", EVERYBODY, encode_answer(ended(end)), self._plan.reply_retention)
        for run in epoch.pending.erased:
            self._time.void(run, commit)
            commit.runs.pop(run.key, None)
            commit.ended.pop(run.key, None)
            commit.ended_runs.pop(run.key, None)
            commit.fresh.append(run.key)


def changed_runs(pending: Pending) -> list[str]:
    """Keys of runs that an epoch has changed in what readers may wait for."""
    runs = (*(row[2] for row in pending.values), *pending.stands, *pending.ended, *pending.erased)
    return list(dict.fromkeys(run.key for run in runs))


def _after(records: Records, count: int) -> str:
    """Position after the first `count` records."""
    if count == len(records):
        return records.after
    if records.positions is not None:
        return records.positions[count - 1]
    last = records.offsets[count - 1]
    if isinstance(last, str):
        return last
    _, mark, log = records.after.partition("@")  # which log it is stands behind the offset, where that is known
    return f"{last + 1}{mark}{log}"


def _outputs(pending: Pending, last: int) -> list[Output]:
    """All outputs that count; those of a run in the order of the source's events and their branches.

    Args:
        pending: The epoch's.
        last: The last source's event that counts.
    """
    rows = pending.outputs
    if len(pending.sent) == 1 and not (rows or pending.ended):
        return pending.sent[0][3]  # of one call, which has the events of each run in their order
    for roots, path, runs, outputs in pending.sent:
        rows += zip(roots, repeat(path), runs, outputs, strict=False)
    rows.sort(key=_order)
    return [
        row[3] for row in rows if not pending.ended or (row[0] <= last and not _late(pending, row[2], row[0], row[1]))
    ]


def _late(pending: Pending, run: RunRecord | None, root: int, path: Path) -> bool:
    """Behind the end of its run: another branch of the event that ended it, which was written down before."""
    end = None if run is None else pending.ended.get(run)
    return end is not None and end.root == root and path > end.path


def _by_root(row: tuple[int, object]) -> int:
    return row[0]
