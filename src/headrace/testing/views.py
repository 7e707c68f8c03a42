"""Runs as a test looks at them: what is committed, decoded."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace.testing.executed import Executed, executed
from headrace.testing.inputs import INBOX
from headrace.testing.parts import part_of
from headrace.testing.problems import HarnessError
from headrace.workflows.control import ControlEvent, encode
from headrace.workflows.envelope import RequestAnswer, decode
from headrace.workflows.executing import source_of
from headrace.workflows.handles import NodeHandle
from headrace.workflows.inner_places import stands_of
from headrace.workflows.keyspace import CONTROL, partition_of
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import NodePlan, Plan
from headrace.workflows.program import node_field
from headrace.workflows.run_streams import RunStreams, Streamed, values_of
from headrace.workflows.runs import (
    ENDED_BY_FIELD,
    ENDED_FIELD,
    NUMBER_FIELD,
    RESULT_FIELD,
    RUNNING,
    SHARED_FIELD,
    STATUS_FIELD,
    VOID_FIELD,
    find_former,
)  # fmt: skip
from headrace.workflows.values import values_in
from headrace.workflows.wait_claims import wait_ids


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, as it was committed when it was looked up."""

    key: str
    _fields: Mapping[str, bytes] = field(repr=False)
    _plan: Plan = field(repr=False)
    _ask: Callable[[ControlEvent], None] = field(repr=False)
    _streams: RunStreams = field(repr=False)
    _execute: Callable[[str, NodePlan, Any, bool], RequestAnswer | None] = field(repr=False)

    @property
    def status(self) -> str:
        """`running`, `completed`, `terminated`, `timed out`, or `source closed`."""
        return self._fields[STATUS_FIELD].decode()

    @property
    def number(self) -> int:
        """Of the run: higher than that of every run which began in its partition before."""
        return int(self._fields[NUMBER_FIELD])

    @property
    def result(self) -> Any:
        """Result of a completed run, reason of a terminated one; None while it runs."""
        blob = self._fields.get(RESULT_FIELD)
        return None if blob is None else msgspec.json.decode(blob)

    @property
    def waits_at(self) -> str | None:
        """Name of the wait that it stands at, of a workflow that is a node `pay/approval`; None: at none."""
        return next(iter(self.stands_at), None)

    @property
    def stands_at(self) -> list[str]:
        """All waits that it stands at: its own one first, then those of its inner runs."""
        return [stand.wait for stand in stands_of(self._fields)] if self.status == RUNNING else []

    @property
    def wait_ids(self) -> list[str]:
        """Of each of `stands_at`: its id, which a message may claim (`Harness.ask(..., wait=)`)."""
        return wait_ids(self._fields, stands_of(self._fields)) if self.status == RUNNING else []

    @property
    def ended(self) -> datetime | None:
        """When it ended (aware, UTC)."""
        time = self._fields.get(ENDED_FIELD)
        return None if time is None else datetime.fromtimestamp(int(time) / 1000, UTC)

    @property
    def ended_by(self) -> str | None:
        """Name of the node that ended it; None: it runs, or was ended from outside or by its sources."""
        node = self._fields.get(ENDED_BY_FIELD)
        return None if node is None else node.decode()

    @property
    def void(self) -> int:
        """How many of its events stood still when it was ended from outside: they are no more."""
        return int(self._fields.get(VOID_FIELD, b"0"))

    @property
    def values(self) -> dict[str, Any]:
        """What its nodes have published by `ctx.set_value`, by name."""
        return {name: value.data for name, value in values_in(self._fields)}

    def version(self, name: str) -> int:
        """Of the value: 1 for the first that was set under its name, then 2, 3 ...; 0: there is none."""
        return next((value.version for known, value in values_in(self._fields) if known == name), 0)

    @property
    def streams(self) -> dict[str, list[Any]]:
        """Values of its streams (`ctx.stream`), by name: those that count now."""
        return {name: self._values(self.entries(name)) for name in self._streams.names(self.key)}

    def entries(self, stream: str, *, after: str = "0") -> list[Streamed]:
        """What a follower of a stream gets from the entry with the id `after` on: values, resets, the end."""
        return self._streams.read(self.key, stream, after, sys.maxsize)

    @staticmethod
    def _values(entries: list[Streamed]) -> list[Any]:
        return [msgspec.json.decode(value) for value in values_of(entries)]

    def terminate(self, reason: Any = None) -> None:
        """End the run from outside, as `headrace runs terminate` does; nothing happens if it has ended.

        Args:
            reason: Kept as its result; anything that JSON can carry.
        """
        self._ask(ControlEvent("terminate", self.key, self.number, msgspec.json.encode(reason).decode()))

    def delete(self) -> None:
        """End the run and forget its key with its dead letters, as `headrace runs delete` does."""
        self._ask(ControlEvent("delete", self.key))

    def execute(self, node: NodeHandle[Any, Any] | str, data: Any, *, commit: bool = False) -> Executed:
        """Have a node of the workflow process data out of line, with the states that the run has; see `Executed`.

        Nothing goes on from there, and nothing is kept of it unless `commit`: then its states and what it asked for by
        `ctx` are.

        Args:
            node: As `workflow.node` gave it, or its name.
            data: What the node takes, or what comes to that as JSON.
            commit: Keep what it does.

        Raises:
            HarnessError: The node can't be executed by itself.
            ExecutionFailed: It has failed, or the run has ended.
        """
        found = part_of(self._plan.nodes, node, self._plan.name)
        if found.takes < 0:
            raise HarnessError(f"{found.name} can't be executed by itself")
        return executed(self._execute(self.key, found, data, commit))

    @property
    def shared(self) -> Any:
        """The state that its nodes share (`Workflow(state=...)`)."""
        codec = self._plan.run_state
        if codec is None:
            raise HarnessError("the workflow has no state=: look at .state(node)")
        blob = self._fields.get(SHARED_FIELD)
        return codec.new() if blob is None else codec.decode(blob)

    def state(self, node: NodeHandle[Any, Any] | str) -> Any:
        """State of one node for this run; a new one where the node has processed nothing of it.

        Args:
            node: As `workflow.node` gave it, or its name: `"pay/charge"` for a node of a workflow that is a node. Of
                such a workflow, the state that its nodes share.
        """
        found = part_of(self._plan.nodes, node, self._plan.name)
        if found.state is None:
            raise HarnessError(f"node {found.name} has no state: say which in Node[In, State, Out]")
        names = map(node_field, (found.name, *found.renamed_from))
        field = find_former(self._fields, names)
        return found.state.new() if field is None else found.state.decode(self._fields[field])


class Runs(Mapping[str, RunView]):
    """All runs that the store knows, by key; `""` is the run of an unkeyed workflow."""

    def __init__(
        self, plan: Plan, partitions: int, store: MemoryStore, settle: Callable[[], None], waits: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._waits = waits
        self._plan = plan
        self._partitions = partitions
        self._store = store
        self._settle = settle

    def __getitem__(self, key: str) -> RunView:
        partition = partition_of(key, self._partitions) if self._plan.keyed else 0
        fields = self._store.run(partition, key)
        if not fields:
            known = ", ".join(map(repr, self)) or "none"
            raise KeyError(f"no run has the key {key!r}. There are: {known}")
        return RunView(key, fields, self._plan, self._ask, self._store.streams(partition), self._execute)

    def _execute(self, key: str, node: NodePlan, data: Any, commit: bool) -> RequestAnswer | None:
        """Ask for it, and let it happen."""
        if self._waits():
            raise HarnessError("an execution inside batch() would wait for ever: make it outside")
        partition = partition_of(key, self._partitions) if self._plan.keyed else 0
        id_ = f"execution-{secrets.token_hex(8)}"
        self._store.append(
            partition, INBOX, msgspec.json.encode(data), key=key, event=id_, time=self._store.now,
            source=source_of(node.name, commit=commit), reply="harness",
        )  # fmt: skip
        self._settle()
        body = self._store.reply(partition, id_)
        return None if body is None else decode(body)

    def _ask(self, event: ControlEvent) -> None:
        """Have something done to a run, from outside."""
        partition = partition_of(event.key, self._partitions) if self._plan.keyed else 0
        self._store.append(partition, CONTROL, encode(event))
        self._settle()
        if event.kind == "delete":
            self._store.drop_letters(event.key)

    def __iter__(self) -> Iterator[str]:
        for partition in range(self._partitions):
            yield from self._store.run_keys(partition)

    def __len__(self) -> int:
        return sum(1 for _ in self)
