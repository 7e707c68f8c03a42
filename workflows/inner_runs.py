"""In a unit: how the runs of a workflow that is a node end, and what goes on then.

An inner run is what a run of the outer workflow has in a scope: the states of the nodes inside, the state that they
share, and what the events that came in have in hand. All of a scope is in one unit, so nobody else knows of its end but
the core, of what stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from .actions import Failure
from .calls import Left, Path
from .codec import encode_json
from .entries import Entry, EntryTable, InnerHome
from .events import Event
from .joining import JoinProcess
from .outcome import Item, Outcome, branches, emitted, json_of
from .plan import Plan, ScopePlan
from .program import END, LEAVE, MANY, NOTHING, NodeProgram, ScopeProgram, Step, UnitProgram
from .settings import Settings
from .timers import IDLE, TimerFiring

FAILED: Final = "failed"
"""`Step.outcome` of an inner run that ends because a node in it failed for good."""
_DROP: Final = Step(NOTHING)
_LASTS: Final = "timeout"
"""Name of the timer of a door by which an inner run ends."""


class InnerRuns:
    """The inner runs of all runs that a unit holds."""

    def __init__(self, plan: Plan, program: UnitProgram, entries: EntryTable, settings: Settings) -> None:
        self._plan = plan
        self._entries = entries
        self._settings = settings
        self._scopes = {scope.plan.index: scope for scope in program.scopes}
        self.share = any(scope.codec is not None for scope in program.scopes)
        """Some of them have a state that their nodes share."""
        self._nodes = {
            scope.plan.index: [node for node in program.nodes if node.index in scope.plan.nodes]
            for scope in program.scopes
        }
        self._stand = {
            index for index, nodes in self._nodes.items() if any(node.plan.retry is not None for node in nodes)
        }
        """Scopes of which something may stand still."""
        arrivals = {row.arrival for row in plan.stands}
        for node in program.nodes:
            if node.scope in self._scopes and self._scopes[node.scope].plan.door == node.index:
                node.process = _entering(node, self._scopes[node.scope].plan)
            elif node.index in arrivals:
                node.process = _arriving(node, plan)

    def keep(self, entries: Sequence[Entry]) -> None:
        """Put the states that nodes of inner runs share among the others."""
        for scope in self._scopes.values():
            if scope.slot >= 0:
                for entry in entries:
                    entry.blobs[scope.slot] = entry.homes[scope.plan.index].shared

    def failed(self, out: Outcome, scope: int, item: Item) -> Item:
        """What becomes of an event that has just failed inside of a scope: an end, if that is what it leads to.

        Args:
            out: Its last failure is the event's.
            scope: Of the node.
            item: The event, with a step that drops it.
        """
        row = out.result.failed[-1]
        if row.wait is not None:
            return item
        while scope >= 0 and self._scopes[scope].failure is None:
            scope = self._scopes[scope].plan.parent
        if scope < 0:
            return item
        out.result.rerouted.append(out.result.failed.pop())
        error = self._settings.mask(row.error)
        failure = Failure(error, row.reason, self._plan.nodes[row.node].name, row.attempts, json_of(item.blob))
        step = Step(LEAVE, row.node, outcome=FAILED, scope=scope)
        return Item(step, item.event, item.type, encode_json(failure), item.hops)

    def leave(self, out: Outcome, index: int, entry: Entry, stack: list[Item], item: Item) -> list[Item]:
        """An inner run ends: what it had is gone, and its outcome goes on.

        Args:
            out: Of the call.
            index: Which event of the call.
            entry: The run.
            stack: What is still to be done of the event.
            item: The end: its data is the result, or the reason.

        Returns:
            What goes on, the last first. By a route to an end it is what the outcome says, not the outcome itself.
        """
        scope = self._scopes[item.step.scope]
        base = _base(entry.homes[scope.plan.index], item.event)
        stack[:] = [other for other in stack if other.event.path[: len(base)] != base]
        self._forget(scope, entry)
        if scope.plan.index in self._stand:
            self._void(out, index, entry, scope)
        said = item.blob or b"null"
        if item.step.outcome == "completed":
            step, number, blob = scope.complete, 0, b'{"result":' + said + b"}"
        elif item.step.outcome == "timed out":
            step, number, blob = scope.timeout, 2, said
        elif item.step.outcome == FAILED:
            step, number, blob = scope.failure or _DROP, 1, said
            said = encode_json(msgspec.json.decode(said)["error"])
        else:
            said = _text(said)
            step, number, blob = scope.failure or _DROP, 1, b'{"error":' + said + b"}"
        data_type = self._plan.types[scope.plan.types[number]]
        event = emitted(item.event, data_type.codec.decode(blob), 0)
        whole = Item(step, event, data_type.number, blob, item.hops)
        going = branches(step, whole) if step.kind == MANY else [whole]
        for part in going:
            if part.step.kind in (END, LEAVE):
                part.blob = said
        return going

    def _forget(self, scope: ScopeProgram, entry: Entry) -> None:
        """All states of an inner run are gone, the next one begins anew; but joins know what would come too late."""
        for node in self._nodes[scope.plan.index]:
            if node.slot >= 0:
                entry.blobs[node.slot] = _left(node, entry.states[node.slot]) or _gone(entry.blobs[node.slot])
                self._entries.restore(node, entry)
        for index, other in self._scopes.items():
            if other is scope or other.plan.door in scope.plan.nodes:
                home = entry.homes[index]
                home.shared = _gone(home.shared)
                home.restore()
        if self._plan.firing_type >= 0:
            for index in (scope.plan.door, *scope.plan.nodes):
                entry.timers.forget(self._plan.nodes[index].name)

    def _void(self, out: Outcome, index: int, entry: Entry, scope: ScopeProgram) -> None:
        """What stands still of an inner run has ended with it."""
        nodes, runs = scope.plan.nodes, out.call.runs
        out.result.failed[:] = [
            row
            for row in out.result.failed
            if row.wait is None or row.node not in nodes or runs[row.index] != runs[index]
        ]
        out.result.left.append(Left(index, scope.plan.index))
        for node in nodes:
            (entry.stopped or {}).pop(node, None)
        entry.left = (entry.left or set()) | set(nodes)


def is_over(entry: Entry, node: int, attempts: Sequence[int] | None, index: int) -> bool:
    """Whether an event stood still before this node, in an inner run that has ended in this call."""
    return bool(entry.left) and node in (entry.left or ()) and attempts is not None and attempts[index] >= 0


def _entering(node: NodeProgram, scope: ScopePlan) -> Callable[..., Any]:
    """What a door does: the inner run knows which event came in, and lasts so long from the first of them on."""
    process, rows = node.process, list(scope.times)
    if scope.lasts is not None:
        rows.append((node.name, _LASTS, scope.lasts))

    def enter(event: Event[Any], ctx: Any) -> Any:
        home: InnerHome = ctx._run
        if event.data.__class__ is not TimerFiring:
            home.door = event.origin, event.offset, event.path
            for name, kind, after in rows:
                if kind == IDLE or not home.timers.has(name, kind):
                    home.timers.set(name, kind, ctx._now_ms + after)
        return process(event, ctx)

    return enter


def _arriving(node: NodeProgram, plan: Plan) -> Callable[..., Any]:
    """Where comes in what an inner run waits for: neither it is idle then, nor one that it is inside of."""
    process, index, rows = node.process, node.scope, list[tuple[str, str, int]]()
    while index >= 0:
        rows += [row for row in plan.scopes[index].times if row[1] == IDLE]
        index = plan.scopes[index].parent

    def arrive(event: Event[Any], ctx: Any) -> Any:
        home: InnerHome = ctx._run
        for name, kind, after in rows:
            home.timers.set(name, kind, ctx._now_ms + after)
        return process(event, ctx)

    return arrive


def _base(home: InnerHome, event: Event[Any]) -> Path:
    """What the paths of all begin with that came of what entered the inner run, as this event did."""
    origin, offset, path = home.door or ("", "", ())
    return path if (origin, offset) == (event.origin, event.offset) and event.path[: len(path)] == path else ()


def _left(node: NodeProgram, state: Any) -> bytes | None:
    """What is kept of a join's state; None: nothing, as of that of any other node."""
    join = node.plan.process
    left = join.left(state) if isinstance(join, JoinProcess) else None
    return node.encode(left) if left is not None and node.encode is not None else None


def _gone(blob: bytes | None) -> bytes | None:
    """An empty text, as commits set fields and take none out; no node ever begins with what is empty."""
    return None if blob is None else b""


def _text(blob: bytes) -> bytes:
    """The JSON text of a reason, as that of a string."""
    return blob if blob.startswith(b'"') else msgspec.json.encode(blob.decode())
