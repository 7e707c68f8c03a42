"""What a unit holds of each run between calls: its decoded states, and the bytes to go back to."""

from __future__ import annotations

from typing import Any

from .calls import Blobs, Call
from .context import Run
from .plan import Plan
from .program import NodeProgram, UnitProgram
from .state_versions import StateUnread
from .timers import RunTimers, timers_of


class Entry(Run[Any]):
    """A run as one unit holds it; it is also the `ctx.run` that nodes see."""

    __slots__ = ("blobs", "ended", "number", "owner", "shared", "states", "stopped", "timers", "unread", "version")

    def __init__(self, workflow: str, key: str, number: int, owner: str) -> None:
        super().__init__(workflow, key, None)
        self.number = number
        self.owner = owner
        self.version = 0
        self.states: list[Any] = []
        self.blobs: Blobs = []
        """The savepoints: JSON text of each state after the last event that went well."""
        self.shared: bytes | None = None
        self.ended = False
        self.stopped: dict[int, int] | None = None
        """Nodes before which something of it stands still, in this call; see `holding`."""
        self.timers: RunTimers
        """There where nodes of the workflow set timers."""
        self.unread: StateUnread | None = None
        """Why a state of it can't be read; then no event of the run is processed here."""


class EntryTable:
    """All runs that a unit holds; the oldest go when there are too many (the worker has every state)."""

    def __init__(self, plan: Plan, program: UnitProgram, limit: int) -> None:
        self._workflow = plan.name
        self._shared = plan.run_state
        self._stateful = [node for node in program.nodes if node.slot >= 0]
        self._limit = limit
        self._entries: dict[str, Entry] = {}
        self.has_unread = False
        """There was an entry with `unread`."""

    def __len__(self) -> int:
        return len(self._entries)

    def enter(self, call: Call) -> tuple[list[Entry], list[int]]:
        """Entries of a call's runs in its order, and the indexes of those whose state must be sent."""
        held = self._entries
        owner = call.owner
        stateless = not self._stateful
        entries: list[Entry] = []
        need: list[int] = []
        for index, (key, number, base, states) in enumerate(
            zip(call.keys, call.numbers, call.bases, call.states, strict=True)
        ):
            entry = held.get(key)
            is_held = entry is not None and entry.number == number and entry.owner == owner
            if entry is None or not (is_held and (stateless or entry.version == base)):
                if states is None and base != 0 and not stateless:
                    need.append(index)
                    continue
                entry = self._load(key, number, owner, base, states)
            entries.append(entry)
        if call.shared is not None and not need:
            for entry, blob in zip(entries, call.shared, strict=True):
                entry.shared = blob
                try:
                    self.restore_shared(entry)
                except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                    self._set_unread(entry, error)
        if call.timers is not None and not need:
            for entry, blob in zip(entries, call.timers, strict=True):
                entry.timers = timers_of(blob)
        if len(held) > self._limit:
            self._trim(call)
        return entries, need

    def _load(self, key: str, number: int, owner: str, base: int, states: Blobs | None) -> Entry:
        entry = Entry(self._workflow, key, number, owner)
        entry.version = base
        entry.blobs = list(states) if states is not None else [None] * len(self._stateful)
        entry.states = [None] * len(self._stateful)
        for node in self._stateful:
            try:
                self.restore(node, entry)
            except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                self._set_unread(entry, error, node.name)
        self._entries[key] = entry
        return entry

    def _set_unread(self, entry: Entry, error: Exception, node: str | None = None) -> None:
        fault = StateUnread.of(error)
        which = "that its nodes share" if node is None else f"of {node}"
        entry.unread = StateUnread(f"the state {which} can't be read by this version: {fault.message}", fault.path)
        self.has_unread = True

    def restore(self, node: NodeProgram, entry: Entry) -> None:
        """Put a node's state back to the savepoint: what the failed event did to it is gone."""
        slot = node.slot
        if slot < 0:
            return
        blob = entry.blobs[slot]
        if blob is None:
            assert node.new is not None
            entry.states[slot] = node.new()
        else:
            assert node.decode is not None
            entry.states[slot] = node.decode(blob)

    def restore_shared(self, entry: Entry) -> None:
        """The same for the state that all nodes of the run share."""
        if self._shared is not None:
            entry.state = self._shared.new() if entry.shared is None else self._shared.decode(entry.shared)

    def forget(self, key: str) -> None:
        """The run has ended: an event that comes with its key belongs to another one."""
        self._entries.pop(key, None)

    def _trim(self, call: Call) -> None:
        """Let the older half go, but nothing that the call at hand needs."""
        needed = set(call.keys)
        for key in list(self._entries)[: len(self._entries) // 2]:
            if key not in needed:
                del self._entries[key]
