"""The naive interpreter with nodes that try again: queues before nodes, and a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from driving import NOW
from headrace.workflows.actions import Reject
from headrace.workflows.plan import COMPLETE, SINK
from model import Graph, Naive, _id


@dataclass(eq=False)
class Waiting:
    """One event that stands still."""

    order: tuple[int, int]
    node: int | None
    """None: it has not begun, and `todo` is where its source leads."""
    key: str
    identity: str
    path: tuple[int, ...]
    data: Any
    todo: list[Any]
    attempts: int = 0
    due: int = 0


class Patient(Naive):
    """One event after the other; what fails for a time waits before its node, and those of its key behind it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.now = NOW
        self.serial = graph.plan.serial
        self.queues: dict[tuple[int | None, str], list[Waiting]] = {}
        self.number = 0
        self.stopped: set[tuple[int | None, str]] = set()
        """Queues whose first has failed again in the batch that is processed now."""
        self.here: set[int] = set()
        """Nodes at which something of the event that is processed now waits (serial)."""
        self.after: Waiting | None = None
        self.void: list[Waiting] = []
        """What stood still of the run that the event which is processed now has ended."""
        self.open_order = False
        """Two queues of one key were due at the same moment: nothing says which goes on first."""

    def next_due(self) -> int | None:
        """When the first of any queue is due."""
        return None if self.ended else min((queue[0].due for queue in self.queues.values() if queue), default=None)

    def tick(self, now: int) -> None:
        """All that is due by now goes on, and what becomes due by that."""
        self.now = now
        while (due := self.next_due()) is not None and due <= now:
            heads = sorted((queue[0].due, queue[0].order, name) for name, queue in self.queues.items() if queue)
            batch = [row for due, _, name in heads if due <= now for row in self.queues[name]]
            moments = [(due, name[1]) for due, _, name in heads if due <= now]
            self.open_order = self.open_order or len(set(moments)) < len(moments)
            self.stopped.clear()
            for row in batch:
                name = self._queue(row.node, row.key)
                if row in self.queues.get(name, ()) and name not in self.stopped and not self.ended:
                    self._goes_on(row)
            self.stopped.clear()

    def _enter(self, key: str, identity: str, stack: list[Any]) -> None:
        self.stopped.clear()
        if self.serial and self.queues.get((None, key)):
            self._wait(key, identity, (), None, None, stack)
            return
        self._begin(key, identity, stack)

    def stands(self, identity: str) -> bool:
        """Something of a request stands still."""
        return any(row.identity == identity for queue in self.queues.values() for row in queue)

    def _settled(self, identity: str) -> None:
        ended = self.said.get("ended")
        super()._settled(identity)
        if ended is not None:
            for row in self.void:
                self._answer(row.identity, ended)
        self.void = []

    def _begin(self, key: str, identity: str, stack: list[Any]) -> None:
        """Each target of the source for itself: in a serial workflow the second one waits behind the first one."""
        if not self.serial:
            self._traverse(key, identity, stack)
            return
        for place, (target, data, path) in enumerate(reversed(stack)):
            if place and (None, key) in self.stopped:
                self._wait(key, identity, path, target, data, [])
            elif not self._traverse(key, identity, [(target, data, path)]):
                return

    def _goes_on(self, row: Waiting) -> None:
        self.queues[self._queue(row.node, row.key)].remove(row)
        self.after = row
        if row.node is None:
            self._begin(row.key, row.identity, row.todo)
        else:
            self._traverse(row.key, row.identity, [(row.node, row.data, row.path)], first=row)
        self.after = None
        self._settle()
        self._settled(row.identity)

    def _traverse(self, key: str, identity: str, stack: list[Any], first: Waiting | None = None) -> bool:
        """Returns False if the run has ended."""
        self.here.clear()
        if self.result.status.get(key, ("running", ""))[0] != "running":
            for name in [name for name in self.result.states if name[0] == key]:
                del self.result.states[name]
        self.result.status[key] = ("running", "")
        while stack:
            target, data, path = stack.pop()
            if target >= SINK:
                self.result.outputs[key, target - SINK].append((_id(identity, path), msgspec.json.encode(data)))
            elif target < 0:
                self._end(key, "completed" if target == COMPLETE else "terminated", data)
                return False
            else:
                stack += self._at_node(key, identity, target, data, path, first)
                first = None
        return True

    def _at_node(
        self, key: str, identity: str, node: int, data: Any, path: tuple[int, ...], first: Waiting | None
    ) -> list[Any]:
        blocked = node in self.here if self.serial else bool(self.queues.get((node, key)))
        if blocked and first is None:
            self._wait(key, identity, path, node, data, [])
            return []
        behaviour = self.graph.behaviours[node]
        names = [(key, f"node:n{node}") if behaviour.stateful else None, (key, "state") if behaviour.shares else None]
        states = [self._state(name) for name in names]
        copy = msgspec.json.decode(msgspec.json.encode(data), type=type(data))
        attempts = 1 if first is None else first.attempts + 1
        try:
            result = behaviour.decide(copy, *states, attempts)
        except OSError as error:
            assert behaviour.retry is not None
            wait = behaviour.retry.wait(error, attempts, _id(identity, path))
            if wait is None:
                return self._failed(error, key, identity, node, data, path, attempts)
            self._wait(key, identity, path, node, data, [], attempts=attempts, due=self.now + wait, again=first)
            return []
        except (ValueError, Reject) as error:
            return self._failed(error, key, identity, node, data, path, attempts)
        for name, state in zip(names, states, strict=True):
            if name is not None:
                self.result.states[name] = msgspec.json.encode(state)
        self._says(behaviour, data, key)
        return self._following(result, node, data, identity, path)

    def _wait(  # noqa: PLR0913
        self, key: str, identity: str, path: tuple[int, ...], node: int | None, data: Any, todo: list[Any], *,
        attempts: int = 0, due: int = 0, again: Waiting | None = None,
    ) -> None:  # fmt: skip
        name = self._queue(node, key)
        if again is not None:
            row = again
            row.attempts, row.due = attempts, due
        else:
            self.number += 1
            major = self.after.order[0] if self.serial and self.after else self.number
            row = Waiting((major, self.number), node, key, identity, path, data, todo, attempts, due)
        queue = self.queues.setdefault(name, [])
        queue.append(row)
        queue.sort(key=lambda one: one.order)
        if attempts:
            self.stopped.add(name)
            if node is not None:
                self.here.add(node)
        self._settle()

    def _settle(self) -> None:
        for name in [name for name, queue in self.queues.items() if not queue]:
            del self.queues[name]
        for queue in self.queues.values():
            queue[0].due = queue[0].due or self.now
            for row in queue[1:]:
                row.due = 0

    def _queue(self, node: int | None, key: str) -> tuple[int | None, str]:
        return (None if self.serial else node), key

    def _end(self, key: str, outcome: str, value: Any) -> None:
        super()._end(key, outcome, value)
        rows = [row for queue in self.queues.values() for row in queue if row.key == key]
        self.void = [row for row in rows if row.node is not None or self.ended]
        for queue in self.queues.values():
            queue[:] = [row for row in queue if row.key != key or row.node is None]
        self._settle()


def standing(queues: Iterable[list[Waiting]]) -> list[tuple[str, str | None, int]]:
    """Key, node and attempts of all that wait."""
    return sorted(
        (row.key, row.node if row.node is None else f"n{row.node}", row.attempts) for q in queues for row in q
    )  # type: ignore[type-var]
