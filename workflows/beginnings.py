"""How runs begin: what the store has of a key is looked at first, then an event that has come begins a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .runs import RUNNING, STATUS_FIELD, RunRecord, latest

if TYPE_CHECKING:
    from .epoch import Epoch
    from .partition import PartitionCore


class Beginnings:
    """The runs of one partition, as they come to be there.

    Args:
        core: Of the partition.
        count: Runs that have begun in it so far.
    """

    def __init__(self, core: PartitionCore, count: int) -> None:
        self._core = core
        self.count = count
        """Runs that have begun: the number of the last one."""

    def loaded(self, keys: Sequence[str], found: Sequence[Mapping[str, bytes]]) -> None:
        """See `PartitionCore.loaded`."""
        core = self._core
        for key, fields in zip(keys, found, strict=True):
            run = core.runs.get(key)
            if run is None or not run.loading:
                continue
            asked = core.control.concerns(key) or core.executing.concerns(key)
            lazily = core.plan.keyed and (asked or (core.late.matter and bool(fields)))
            if lazily and fields.get(STATUS_FIELD) != RUNNING.encode():
                core.runs.settle(run, fields)
                for epoch in core.epochs:
                    epoch.late = epoch.late or run in epoch.touched
            elif not fields:
                self._absent(run, replaces=False)
            elif fields[STATUS_FIELD] == RUNNING.encode():
                core.dispatcher.calls += 1
                core.runs.restore(run, fields, core.dispatcher.calls)
            elif core.plan.keyed:
                self._absent(run, replaces=True)
            else:
                run.loading, run.ended, core.ended = False, True, True
        done = set(keys)
        for epoch in core.epochs:
            epoch.missing -= done

    def _absent(self, run: RunRecord, *, replaces: bool) -> None:
        """The store has no such run that goes on: it begins, if an event has come for it."""
        run.loading, run.absent, run.replaces = False, True, replaces
        if run.wanted:
            self.if_absent(run)

    def if_absent(self, run: RunRecord) -> None:
        """An event has come for a run: it begins, if it is not there."""
        if run.absent:
            run.absent = False
            self._begin(run, replaces=run.replaces)

    def _begin(self, run: RunRecord, *, replaces: bool) -> None:
        self.count += 1
        self._core.runs.begin(run, self.count, replaces=replaces)

    def successor(self, epoch: Epoch, run: RunRecord) -> RunRecord:
        """The run that takes over the key of one that ended: its number is the next, its states are new."""
        new = run = latest(run)
        if run.ended:
            new = run.next = self._core.runs.add(run.key)
            new.busy += 1
            self._begin(new, replaces=True)
        if new not in epoch.touched:
            epoch.touched.add(new)
            new.busy += 1
        return new
