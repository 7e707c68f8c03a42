"""What a unit holds of each run between calls: its decoded states, and the bytes to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .calls import Blobs, Call, CallResult, Path
from .context import Run
from .plan import Plan, StateCodec
from .program import NodeProgram, UnitProgram
from .state_sizes import SHARED, StateSizes
from .state_versions import StateUnread
from .timers import RunTimers, timers_of


class Home(Run[Any]):
    """A run, or an inner run, with the state that its nodes share; it is the `ctx.run` that they see."""

    __slots__ = ("codec", "name", "shared")

    def __init__(self, workflow: str, key: str, codec: StateCodec | None, name: str = SHARED) -> None:
        super().__init__(workflow, key, None)
        self.codec = codec
        self.name = name
        """What its state is called where it grows too large."""
        self.shared: bytes | None = None
        """The savepoint: JSON text of the state; None, or empty: not begun."""

    def restore(self) -> None:
        """Put the state back to the savepoint."""
        if self.codec is not None:
            self.state = self.codec.decode(self.shared) if self.shared else self.codec.new()

    def encode(self, sizes: StateSizes) -> bytes | None:
        """The state as it is now; None where there is none."""
        if self.codec is None:
            return None
        saved = self.codec.encode(self.state)
        if len(saved) > sizes.large:
            sizes.check(self.name, self.key, len(saved))
        return saved


class Entry(Home):
    """A run as one unit holds it."""

    __slots__ = (
        "blobs",
        "ended",
        "homes",
        "left",
        "number",
        "owner",
        "states",
        "stopped",
        "timers",
        "unread",
        "values",
        "version",
    )

    def __init__(self, workflow: str, key: str, number: int, owner: str, codec: StateCodec | None) -> None:
        super().__init__(workflow, key, codec)
        self.number = number
        self.owner = owner
        self.version = 0
        self.states: list[Any] = []
        self.blobs: Blobs = []
        """The savepoints: JSON text of each state after the last event that went well; empty: it went with an inner
        run."""
        self.homes: dict[int, InnerHome] = {}
        """Its inner runs, by scope."""
        self.left: set[int] | None = None
        """Nodes inside of inner runs that ended in this call."""
        self.ended = False
        self.stopped: dict[int, int] | None = None
        """Nodes before which something of it stands still, in this call; see `holding`."""
        self.timers: RunTimers
        """There where nodes of the workflow set timers."""
        self.values: dict[str, int] = {}
        """Bytes of its values, by name."""
        self.unread: StateUnread | None = None
        """Why a state of it can't be read; then no event of the run is processed here."""


class InnerHome(Home):
    """An inner run as one unit holds it."""

    __slots__ = ("door", "run")

    def __init__(self, run: Entry, codec: StateCodec | None, name: str) -> None:
        super().__init__(run._workflow, run.key, codec, name)
        self.run = run
        """That of the outer workflow."""
        self.door: tuple[str, int | str, Path] | None = None
        """Which event last came to it from outside: origin, offset, path."""

    @property
    def timers(self) -> RunTimers:
        """Those of all nodes of the run."""
        return self.run.timers

    @property
    def values(self) -> dict[str, int]:
        """Those of the run."""
        return self.run.values


class EntryTable:
    """All runs that a unit holds; the oldest go when there are too many (the worker has every state)."""

    def __init__(self, plan: Plan, program: UnitProgram, limit: int) -> None:
        self._workflow = plan.name
        self._shared = plan.run_state
        self._scopes = program.scopes
        self._count = len(program.slots)
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
        stateless = not self._count
        entries = self._stateless(call) if stateless else []
        need: list[int] = []
        for index, (key, number, base, states) in enumerate(
            () if stateless else zip(call.keys, call.numbers, call.bases, call.states, strict=True)
        ):
            entry = held.get(key)
            is_held = entry is not None and entry.number == number and entry.owner == owner
            if entry is None or not (is_held and entry.version == base):
                if states is None and base != 0:
                    need.append(index)
                    continue
                entry = self._load(key, number, owner, base, states)
            entries.append(entry)
        if call.shared is not None and not need:
            for entry, blob in zip(entries, call.shared, strict=True):
                entry.shared = blob
                try:
                    entry.restore()
                except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                    self._set_unread(entry, error)
        if call.timers is not None and not need:
            for entry, blob in zip(entries, call.timers, strict=True):
                entry.timers = timers_of(blob)
        if call.values is not None and not need:
            for entry, sizes in zip(entries, call.values, strict=True):
                entry.values = sizes
        if len(held) > self._limit:
            self._trim(call)
        return entries, need

    def _stateless(self, call: Call) -> list[Entry]:
        """Entries of a call's runs where no node of the unit has a state: any version will do."""
        held, owner, entries = self._entries, call.owner, list[Entry]()
        for key, number in zip(call.keys, call.numbers, strict=True):
            entry = held.get(key)
            if entry is None or entry.number != number or entry.owner != owner:
                entry = self._load(key, number, owner, 0, None)
            entries.append(entry)
        return entries

    def _load(self, key: str, number: int, owner: str, base: int, states: Blobs | None) -> Entry:
        entry = Entry(self._workflow, key, number, owner, self._shared)
        entry.version = base
        entry.blobs = list(states) if states is not None else [None] * self._count
        entry.states = [None] * self._count
        for node in self._stateful:
            try:
                self.restore(node, entry)
            except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                self._set_unread(entry, error, node.name)
        for scope in self._scopes:
            home = entry.homes[scope.plan.index] = InnerHome(entry, scope.codec, scope.plan.name)
            if scope.slot >= 0:
                home.shared = entry.blobs[scope.slot]
            try:
                home.restore()
            except Exception as error:  # noqa: BLE001  a migration, or a type of the user's: it may raise anything
                self._set_unread(entry, error, scope.plan.name)
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
        if not blob:
            assert node.new is not None
            entry.states[slot] = node.new()
        else:
            assert node.decode is not None
            entry.states[slot] = node.decode(blob)

    def done(self, entries: Sequence[Entry], result: CallResult) -> None:
        """A call is over: states are of its making. An event with the key of a run that has ended is another one's."""
        number, owner = result.number, result.owner
        for entry in entries:
            entry.version, entry.owner, entry.stopped, entry.left = number, owner, None, None
            if entry.ended:
                self._entries.pop(entry.key, None)

    def _trim(self, call: Call) -> None:
        """Let the older half go, but nothing that the call at hand needs."""
        needed = set(call.keys)
        for key in list(self._entries)[: len(self._entries) // 2]:
            if key not in needed:
                del self._entries[key]
