"""The interpreter of workflows inside workflows, with nodes that try again: one queue for each key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from driving import NOW
from headrace.workflows.plan import Plan
from model import Token
from nested import MOST_STEPS, Endless, Item, Level, NaiveNested, Part


@dataclass(eq=False)
class Waiting:
    """What stands still of a run."""

    order: tuple[int, int]
    item: Item | None
    """None: it has not begun, and `source` is where it came from."""
    data: Any
    source: int
    identity: str
    attempts: int = 0
    due: int = 0


class PatientNested(NaiveNested):
    """One event after the other; what fails for a time waits, and all of its run behind it."""

    def __init__(self, level: Level, plan: Plan) -> None:
        super().__init__(level, plan)
        self.now = NOW
        self.queues: dict[str, list[Waiting]] = {}
        self._number = 0
        self._failed_now: dict[str, set[str]] = {}
        """By key: nodes at which something has failed in the batch that is processed now."""
        self._here: set[str] = set()
        """Nodes before which something of the event that is processed now waits."""
        self._after: Waiting | None = None
        self._first: Waiting | None = None
        """What goes on before the first node that it meets."""
        self._again: Waiting | None = None
        """What the node at hand tries again."""

    def feed(self, source: int, value: bytes | None) -> None:
        origin = f"tokens{source}/0"
        identity = f"{origin}/{self.result.processed[origin]}"
        self.result.processed[origin] += 1
        try:
            data = msgspec.json.decode(value or b"", type=Token)
        except msgspec.DecodeError:
            self.result.dead[""].append((identity, None, "tombstone" if value is None else "decode"))
            return
        self._failed_now.clear()
        self._key, self._identity = data.key, identity
        if self.queues.get(data.key):
            self._wait(None, data, source)
        else:
            self._begin(data, source)

    def next_due(self) -> int | None:
        """When the first of any queue is due."""
        return min((queue[0].due for queue in self.queues.values()), default=None)

    def tick(self, now: int) -> None:
        """All that is due by now goes on, and what becomes due by that."""
        self.now = now
        while (due := self.next_due()) is not None and due <= now:
            batch = [(key, row) for key, queue in self.queues.items() if queue[0].due <= now for row in queue]
            self._failed_now.clear()
            for key, row in batch:
                if row in self.queues.get(key, ()) and not self._failed_now.get(key):
                    self._goes_on(key, row)
            self._failed_now.clear()

    def _goes_on(self, key: str, row: Waiting) -> None:
        self.queues[key].remove(row)
        self._key, self._identity, self._after = key, row.identity, row
        if row.item is None:
            self._begin(row.data, row.source)
        else:
            self._first = row
            self._traverse(row.item)
        self._after = None
        self._settle()

    def _begin(self, data: Token, source: int) -> None:
        """Each target of the source for itself: the second one waits behind the first one."""
        items = self._fan_out(Item(self.level, "", None, data, ()), self.level.entries[source])[::-1]
        for place, item in enumerate(items):
            if place and self._failed_now.get(self._key):
                self._wait(item, item.data, source)
            elif self._traverse(item):
                return

    def _traverse(self, item: Item) -> bool:
        """Returns True if the run has ended."""
        self._here.clear()
        if self.result.status.get(self._key, ("running", ""))[0] != "running":
            self._forget(self._key, "")
        self.result.status[self._key] = ("running", "")
        self._stack = [item]
        for _ in range(MOST_STEPS):
            if not self._stack:
                return False
            if self._step(self._stack.pop()):
                queue = self.queues.get(self._key, [])
                queue[:] = [row for row in queue if row.item is None]
                self._settle()
                return True
        raise Endless

    def _step(self, item: Item) -> bool:
        if not isinstance(item.target, Part) or item.target.level is not None:
            self._first = None  # what it meets behind a door has not tried it
        return super()._step(item)

    def _visit(self, item: Item, part: Part) -> bool:
        name, behaviour, first = f"{item.way}{part.name}", part.behaviour, self._first
        self._first = None
        if len(item.path) > MOST_STEPS:
            raise Endless  # by and by, from one attempt to the next
        self._again = None
        if behaviour is None or behaviour.retry is None:
            return super()._visit(item, part)
        if first is None and name in self._here:
            self._wait(item, item.data, 0)
            return False
        self._again = first
        attempts = 1 if first is None else first.attempts + 1
        decide = behaviour.decide

        def tried(*arguments: Any) -> Any:
            try:
                return decide(*arguments, attempts)
            except OSError as error:
                raise ValueError from error

        behaviour.decide = tried  # type: ignore[method-assign]
        try:
            return super()._visit(item, part)
        finally:
            del behaviour.decide  # type: ignore[method-assign]

    def _failed(self, item: Item, name: str, error: Exception, attempts: int = 1) -> bool:
        cause = error.__cause__
        attempts = 1 if self._again is None else self._again.attempts + 1
        if not isinstance(cause, OSError):
            return super()._failed(item, name, error, attempts)
        part: Part = item.target
        assert part.behaviour is not None
        assert part.behaviour.retry is not None
        wait = part.behaviour.retry.wait(cause, attempts, self._id(item.path))
        if wait is None:
            return super()._failed(item, name, cause, attempts)
        self._here.add(name)
        self._failed_now.setdefault(self._key, set()).add(name)
        self._wait(item, item.data, 0, attempts=attempts, due=self.now + wait, again=self._again)
        return False

    def _wait(
        self, item: Item | None, data: Any, source: int, *, attempts: int = 0, due: int = 0,
        again: Waiting | None = None,
    ) -> None:  # fmt: skip
        if again is not None:
            row = again
            row.attempts, row.due = attempts, due
        else:
            self._number += 1
            major = self._after.order[0] if self._after else self._number
            row = Waiting((major, self._number), item, data, source, self._identity, attempts, due)
        queue = self.queues.setdefault(self._key, [])
        queue.append(row)
        queue.sort(key=lambda one: one.order)
        self._settle()

    def _settle(self) -> None:
        for key in [key for key, queue in self.queues.items() if not queue]:
            del self.queues[key]
        for queue in self.queues.values():
            queue[0].due = queue[0].due or self.now
            for row in queue[1:]:
                row.due = 0

    def _leave(self, item: Item, depth: int, outcome: Any, data: Any) -> None:
        """What stood still of the inner run is void."""
        _, way, part = item.outer[depth]
        inside = f"{way}{part.name}/"
        queue = self.queues.get(self._key, [])
        queue[:] = [row for row in queue if row.item is None or not row.item.way.startswith(inside)]
        self._here = {name for name in self._here if not name.startswith(inside)}
        failed = self._failed_now.get(self._key, set())
        failed -= {name for name in failed if name.startswith(inside)}
        self._settle()
        super()._leave(item, depth, outcome, data)
