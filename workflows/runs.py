"""The runs of a partition as its owner holds them: states by unit, with the version each of them has."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from .calls import Blobs
from .plan import Plan
from .program import UnitProgram
from .timers import NOWHERE, TIMERS, stand_of, timers_of
from .values import Known, known_in

RUNNING: Final = "running"


class RunRecord:
    """One run: what is committed of it and what the epochs in flight have made of it."""

    __slots__ = ("absent", "blobs", "busy", "callback", "ended", "forgotten", "former", "fresh", "hash", "idle_set",
                 "key", "loading", "next", "number", "replaces", "seen", "seen_kept", "sent", "shared", "stand",
                 "stand_kept", "timers", "timers_kept", "values", "versions", "wanted")  # fmt: skip

    def __init__(self, key: str, units: int, *, wanted: bool = True) -> None:
        self.key = key
        self.number = 0
        self.hash = zlib.crc32(key.encode())
        """Chooses replicas; not the partitioner's hash, which all keys of a partition share a part of."""
        self.versions = [0] * units
        """By unit: number of the call that made its states; 0: none yet."""
        self.blobs: list[Blobs | None] = [None] * units
        self.sent = [False] * units
        """By unit: the replica should hold that version."""
        self.shared: bytes | None = None
        self.former: dict[int, list[str]] | None = None
        """By unit: fields with former names of its nodes, from which its states were taken."""
        self.busy = 0
        """Epochs in flight that have events of it."""
        self.ended = False
        self.forgotten = False
        """It has ended, and is not remembered, or it never was one: nothing that comes for its key is late."""
        self.loading = True
        self.fresh = False
        """It began after the last commit: status and number are still to be written."""
        self.replaces = False
        """Its key was used before: what the store has under it belongs to another run."""
        self.absent = False
        """The store does not have it (any more), and only what fell due has come for it: it does not begin."""
        self.wanted = wanted
        """It begins if it is not there."""
        self.seen = self.seen_kept = 0
        """When its last event came: milliseconds since 1970 UTC; and as it is in the store."""
        self.idle_set = False
        """The store's index has when it has been idle for too long."""
        self.timers: bytes | None = None
        self.timers_kept: bytes | None = None
        """What its nodes have set, as `RunTimers` writes it; and as it is in the store."""
        self.stand = self.stand_kept = NOWHERE
        """The wait that it stands at; and as it is in the store."""
        self.values: Known | None = None
        """What it has published; None: nothing."""
        self.callback = ""
        """Address that is told what becomes of it; "": none."""
        self.next: RunRecord | None = None
        """The run that took its key over: held as long as this one is, for epochs that still name this one."""


def latest(run: RunRecord) -> RunRecord:
    """The run that has its key now: itself, or one that followed it."""
    while run.next is not None:
        run = run.next
    return run


class RunTable:
    """All runs held for a partition. Idle ones go, the longest held first, when there are too many."""

    def __init__(self, plan: Plan, programs: list[UnitProgram], limit: int) -> None:
        self._units = len(plan.units)
        self._names = [program.state_names for program in programs]
        self._former = [program.former_names if any(program.former_names) else None for program in programs]
        self._limit = limit
        self._wanted = not plan.timed
        self._renamed = {former: node.name for node in plan.nodes for former in node.renamed_from}
        self.have_values = False
        """Some run has published something."""
        self.have_callbacks = False
        """Some run has an address that is told what becomes of it."""
        self._runs: dict[str, RunRecord] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, key: str) -> RunRecord | None:
        """The run with this key, if it is held."""
        return self._runs.get(key)

    def add(self, key: str) -> RunRecord:
        """Hold a run of this key; its states are to be loaded (or it is to begin)."""
        run = self._runs[key] = RunRecord(key, self._units, wanted=self._wanted)
        return run

    def begin(self, run: RunRecord, number: int, *, replaces: bool) -> None:
        """It is a new run, without states."""
        run.number, run.fresh, run.replaces, run.loading = number, True, replaces, False

    def settle(self, run: RunRecord, fields: Mapping[str, bytes]) -> None:
        """No run of its key is running: the store's last one has ended, or it has none. The next one begins later."""
        run.number, run.loading, run.ended, run.forgotten = int(fields.get(NUMBER_FIELD, b"0")), False, True, not fields

    def restore(self, run: RunRecord, fields: Mapping[str, bytes], version: int) -> None:
        """It is a run that the store has: take over its states, as version `version`."""
        run.number, run.loading = int(fields[NUMBER_FIELD]), False
        run.shared = fields.get(SHARED_FIELD)
        run.timers_kept = fields.get(TIMERS) or None
        run.timers = run.timers_kept and self._with_names(run.timers_kept)
        run.stand = run.stand_kept = stand_of(fields.get(WAIT_FIELD))
        run.values = known_in(fields)
        self.have_values = self.have_values or run.values is not None
        run.callback = fields.get(CALLBACK_FIELD, b"").decode()
        self.have_callbacks = self.have_callbacks or bool(run.callback)
        run.seen_kept = int(fields.get(SEEN_FIELD) or b"0")
        run.idle_set = bool(run.seen_kept)
        run.seen = max(run.seen, run.seen_kept)
        for unit, names in enumerate(self._names):
            blobs: Blobs = [fields.get(name) or None for name in names]
            former = self._former[unit]
            if former is not None:
                self._take_over(run, unit, blobs, [find_former(fields, before) for before in former], fields)
            if any(blob is not None for blob in blobs):
                run.blobs[unit], run.versions[unit] = blobs, version

    def _with_names(self, blob: bytes) -> bytes:
        """A run's timers, under the names that its nodes have now."""
        timers = timers_of(blob)
        if timers.set_.keys().isdisjoint(self._renamed):
            return blob
        timers.rename(self._renamed)
        return timers.field or blob

    @staticmethod
    def _take_over(
        run: RunRecord, unit: int, blobs: Blobs, found: list[str | None], fields: Mapping[str, bytes]
    ) -> None:
        """States of nodes that were renamed, where they still lie under a former name."""
        for slot, name in enumerate(found):
            if name is not None and blobs[slot] is None:
                blobs[slot] = fields[name]
                run.former = run.former or {}
                run.former.setdefault(unit, []).append(name)

    @staticmethod
    def leave_former(run: RunRecord, units: Iterable[int]) -> list[str]:
        """Field, value ... to be written beside the states of these units: what lay under former names is gone.

        An empty text, as commits set fields and take none out; no node ever begins with what is empty.
        """
        left = [name for unit in units for name in (run.former or {}).pop(unit, ())]
        return [text for name in left for text in (name, "")]

    def release(self, runs: Iterable[RunRecord]) -> None:
        """An epoch is committed: its runs are one epoch less busy. Ended ones go, others if there are too many."""
        held = self._runs
        for released in runs:
            run: RunRecord | None = released
            while run is not None:
                run.busy -= 1
                if run.busy:
                    break
                if (run.ended or run.absent) and held.get(run.key) is run:
                    del held[run.key]
                run = run.next
        if len(held) > self._limit:
            surplus = len(held) - self._limit * 3 // 4
            idle = [run.key for run in held.values() if not run.busy][:surplus]
            for key in idle:
                del held[key]

    def fields(self, unit: int, blobs: Blobs) -> list[str]:
        """Field, value, field, value ... of the states of one unit; without those not begun."""
        flat: list[str] = []
        for name, blob in zip(self._names[unit], blobs, strict=True):
            if blob is not None:
                flat += (name, blob.decode())
        return flat


def find_former(fields: Mapping[str, bytes], names: Iterable[str]) -> str | None:
    """The first of these fields in which a state lies."""
    return next((name for name in names if fields.get(name)), None)


STATUS_FIELD: Final = "status"
NUMBER_FIELD: Final = "number"
SHARED_FIELD: Final = "state"
RESULT_FIELD: Final = "result"
"""JSON text: the result of a completed run, the reason of a terminated one."""
WAIT_FIELD: Final = "wait"
"""JSON of a `Stand`: the wait that it stands at."""
SEEN_FIELD: Final = "seen"
"""When its last event came (milliseconds since 1970 UTC), where runs may be idle for too long; empty: it was told that
it is."""
BEGAN_FIELD: Final = "began"
"""Milliseconds since 1970 UTC."""
ENDED_FIELD: Final = "ended"
"""Milliseconds since 1970 UTC."""
ENDED_BY_FIELD: Final = "ended_by"
"""Name of the node that ended it; a run that was ended from outside, or by its sources, has none."""
CALLBACK_FIELD: Final = "callback"
"""Address that is told what becomes of it."""
VOID_FIELD: Final = "void"
"""How many of its events stood still when it was ended from outside: they are no more."""
