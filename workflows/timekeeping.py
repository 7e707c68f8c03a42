"""What falls due in one partition: when to look for it, whether it still counts, and what its commit says of it.

The store's index has all of it, by time; here is known when the first is due, and what is under way. A time-out that
comes counts only if it is still so: a run that had an event since is not idle, and gets another time. Idle times are
not set again with each event, but when the first of them is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .codec import type_name
from .commit import Commit, Head
from .epoch import Epoch
from .plan import OVERS, NodePlan
from .records import Records, Reentry
from .reentry import Way
from .runs import SEEN_FIELD, WAIT_FIELD, RunRecord
from .timers import (
    IDLE,
    NODE,
    SOURCE,
    TIMERS,
    TOTAL,
    WAIT,
    Due,
    RunTimers,
    due_of,
    encode_stand,
    firing_of,
    timers_of,
)  # fmt: skip

if TYPE_CHECKING:
    from .partition import PartitionCore

FieldsOf = Callable[[RunRecord, Commit], list[str]]
"""Fields of a run in a commit, to be added to."""
Firing = tuple[Due, int]
"""What fell due, and when it was to: milliseconds since 1970 UTC."""


class Timekeeping:
    """Keeps the times of one partition's runs."""

    def __init__(self, core: PartitionCore, head: Head) -> None:
        self._core = core
        self._plan = core.plan
        self._first = head.first_timer
        self._asked = False
        self._added: int | None = None
        """The earliest time of commits that the store may not have had when it was asked."""
        self._under_way = 0
        """Epochs of firings that are not committed."""

    @property
    def next_due(self) -> int | None:
        """When the first is due that is not under way: milliseconds since 1970 UTC; None: nothing is to be done."""
        return None if self._asked or self._under_way else self._first

    @property
    def following(self) -> int | None:
        """The same, also while what fell due before is under way: sources can be asked meanwhile how far they go."""
        return None if self._asked else self._first

    def ask(self) -> None:
        """The store is asked for what is due."""
        made = [epoch.save.commit.timers for epoch in self._core.epochs if epoch.save is not None]
        self._asked, self._added = True, min((min(times.values()) for times in made if times), default=None)

    def came(self, rows: Sequence[tuple[str, int]], following: int | None) -> list[Records]:
        """The store's answer.

        Args:
            rows: Members of its index and their times, the earliest first.
            following: When the next one is due that is not among them; None: there is none.

        Returns:
            What fell due, as records to be offered.
        """
        self._asked = False
        self._first = min((time for time in (following, self._added) if time is not None), default=None)
        if not rows:
            return []
        self._under_way += 1
        return firings([(due_of(member), time) for member, time in rows])

    def enter(self, records: Records) -> Way:
        """Where firings enter the graph, all of one kind (and node); new ones get the data of their events."""
        assert records.firings
        due = records.firings[0][0]
        node, timeout, wait = self._node(due.node), self._plan.timeout(due.kind), self._plan.wait(due.node)
        way = Way()
        values: list[bytes | None] = [b"null"] * len(records)
        if due.kind == NODE and node is not None:
            way = Way((node.index,), self._plan.firing_type)
            values = [firing_of(due, time) for due, time in records.firings]
        elif timeout is not None:
            way = Way(timeout.targets, timeout.type)
            values = [timeout.data] * len(records)
        elif due.kind == WAIT and wait is not None and wait.type >= 0:
            way = Way((OVERS - wait.index,), wait.type)
            values = [wait.data] * len(records)
        if records.standing is None:
            records.values = values
            records.entry = Reentry(type=type_name(self._plan.types[way.type].type) if way.type >= 0 else "")
        return way

    def touch(self, runs: Sequence[RunRecord], records: Records, now: int) -> None:
        """Events have come for these runs: they are not idle, and those that are not there begin."""
        if records.firings is not None:
            return
        is_message = records.source in self._plan.messages and not (records.entry and records.entry.node)
        for run in runs:
            run.wanted = run.wanted or not is_message
            if records.standing is None:
                run.seen = max(run.seen, now)
            if not is_message:
                self._core.beginnings.if_absent(run)

    def admit(self, epoch: Epoch, now: int) -> None:
        """Of an epoch that enters: what fell due and no longer counts is no event."""
        void: list[int] = []
        for slot, firing in epoch.firings.items():
            run = epoch.runs[slot]
            if run is not None and not self._counts(epoch, run, firing, now):
                epoch.runs[slot] = None
                void.append(slot)
        self._core.standing.gone_on(epoch, void, now)  # those of them that stood still do so no more

    def _counts(self, epoch: Epoch, run: RunRecord, firing: Firing, now: int) -> bool:
        due = firing[0]
        epoch.rang.setdefault(due, None)
        if run.absent or run.ended or run.number != due.number:
            return False
        if due.kind == NODE:
            return self._node(due.node) is not None  # whether it was taken back, the node's unit finds out
        if due.kind == WAIT:
            return self._plan.wait(due.node) is not None  # whether it still stands there, shows when it is its turn
        timeout = self._plan.timeout(due.kind)
        if timeout is None:
            return False
        if due.kind == IDLE:
            if run.seen + timeout.after > now:
                epoch.rang[due] = run.seen + timeout.after
                return False
            run.idle_set = False
            epoch.told_idle.add(run)
        return True

    def _node(self, name: str) -> NodePlan | None:
        node = self._plan.node_called(name)
        return node if node is not None and node.on_timer is not None else None

    def write(self, epoch: Epoch, commit: Commit, held: Callable[[str], RunRecord | None], fields_of: FieldsOf) -> None:
        """What an epoch's commit says of times. To be called before a new run's first fields are written."""
        ended = epoch.pending.ended
        for due, again in epoch.rang.items():
            if again is None:
                commit.no_timers.append(due.member)
            else:
                commit.timers[due.member] = again
        for run in epoch.touched:
            if run.absent:
                continue
            if run in ended:
                self.void(run, commit)
            elif held(run.key) is run:
                self._write_run(epoch, run, commit, fields_of)
        if commit.timers:
            first = min(commit.timers.values())
            self._first = first if self._first is None else min(self._first, first)
            self._added = first if self._added is None else min(self._added, first)

    def _write_run(self, epoch: Epoch, run: RunRecord, commit: Commit, fields_of: FieldsOf) -> None:
        idle, total = self._plan.timeout(IDLE), self._plan.timeout(TOTAL)
        if run.fresh and total is not None:
            commit.timers[Due(TOTAL, run.key, run.number).member] = epoch.began + total.after
        if idle is not None:
            if run.fresh:
                run.seen = max(run.seen, epoch.began)
            if run in epoch.told_idle:
                fields_of(run, commit).extend((SEEN_FIELD, ""))
            elif run.seen > run.seen_kept:
                fields_of(run, commit).extend((SEEN_FIELD, str(run.seen)))
                run.seen_kept = run.seen
                if not run.idle_set:
                    run.idle_set = True
                    commit.timers[Due(IDLE, run.key, run.number).member] = run.seen + idle.after
        if run in epoch.pending.stands:
            stand, before = epoch.pending.stands[run], run.stand_kept
            fields_of(run, commit).extend((WAIT_FIELD, encode_stand(stand).decode()))
            if before.due:
                commit.no_timers.append(Due(WAIT, run.key, run.number, before.wait, "", before.generation).member)
            if stand.due:
                commit.timers[Due(WAIT, run.key, run.number, stand.wait, "", stand.generation).member] = stand.due
            run.stand_kept = stand
        if run in epoch.pending.timers:
            blob = epoch.pending.timers[run]
            assert blob is not None
            fields_of(run, commit).extend((TIMERS, blob.decode()))
            self._write_timers(run, timers_of(blob), commit)

    @staticmethod
    def _write_timers(run: RunRecord, now_set: RunTimers, commit: Commit) -> None:
        """Set and take back in the index what has changed since the commit before."""
        before = dict(timers_of(run.timers_kept).all_of(run.key, run.number))
        after = dict(now_set.all_of(run.key, run.number))
        commit.no_timers += [due.member for due in before.keys() - after.keys()]
        commit.timers.update({due.member: time for due, time in after.items() if due not in before})
        run.timers_kept = now_set.field

    def void(self, run: RunRecord, commit: Commit) -> None:
        """Nothing of a run that has ended falls due."""
        members = [Due(kind, run.key, run.number).member for kind in (IDLE, TOTAL)]
        members += [due.member for due, _ in timers_of(run.timers_kept).all_of(run.key, run.number)]
        if (stand := run.stand_kept).due:
            members.append(Due(WAIT, run.key, run.number, stand.wait, "", stand.generation).member)
        for member in members:
            commit.timers.pop(member, None)
        commit.no_timers += members

    def committed(self, epoch: Epoch) -> None:
        """The store has it."""
        if any(records.firings is not None and records.standing is None for records in epoch.records):
            self._under_way -= 1


def firings(rows: Sequence[Firing]) -> list[Records]:
    """What fell due as records, those of one kind (and node) in a row together."""
    batches: list[Records] = []
    for _, group in groupby(rows, key=_kind):
        found = list(group)
        ids = [due.id(time) for due, time in found]
        batches.append(
            Records(
                -1, TIMERS, list(ids), [time for _, time in found], [due.key.encode() for due, _ in found],
                [None] * len(found), "", ids=ids, unknown=SOURCE, firings=found,
            )
        )  # fmt: skip
    return batches


def _kind(row: Firing) -> tuple[str, str]:
    return row[0].kind, row[0].node
