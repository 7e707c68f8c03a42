"""Batch nodes: many events in one call of the user's `process`, with the same guarantees as one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .actions import Reject
from .calls import Call
from .context import Context
from .entries import Entry, EntryTable
from .errors import HeadraceError
from .events import Event
from .program import NodeProgram
from .settings import NO_SETTINGS, Settings


class BatchShape(HeadraceError):
    """A batch node did not return one result for each event."""

    reason_code = "output"
    final = True

    def __init__(self, node: str, events: int, returned: Any) -> None:
        got = f"{len(returned)} results" if isinstance(returned, Sequence) else type(returned).__name__
        super().__init__(f"{node}.process got {events} events, returned {got}: return a list, one result for each")


class BatchProcess:
    """Stands in for a batch node's `process`: gives each event its part of what the batch returned.

    An event that was not in the batch (it came round a loop, or its batch failed and its events go
    singly) is a batch of one.
    """

    def __init__(self, node: NodeProgram, settings: Settings = NO_SETTINGS) -> None:
        self._node = node
        self._settings = settings
        self._process: Callable[[Sequence[Event[Any]], Sequence[Context[Any, Any]]], Any] = node.process
        self._prepared: dict[int, tuple[Any, Context[Any, Any]]] = {}

    def __call__(self, event: Event[Any], context: Context[Any, Any]) -> Any:
        """The result for one event; a coroutine where the node is async."""
        if self._node.is_async:
            return self._one_async(event, context)
        ready = self._take(event, context)
        return ready[0] if ready else self._only(self._process([event], [context]))

    async def _one_async(self, event: Event[Any], context: Context[Any, Any]) -> Any:
        ready = self._take(event, context)
        return ready[0] if ready else self._only(await self._process([event], [context]))

    def _take(self, event: Event[Any], context: Context[Any, Any]) -> tuple[Any] | None:
        prepared = self._prepared.pop(id(event), None)
        if prepared is None:
            return None
        result, own = prepared
        context.state, context._effects = own.state, own._effects
        if isinstance(result, Reject):
            raise result
        return (result,)

    def _only(self, results: Any) -> Any:
        result = self._checked(results, 1)[0]
        if isinstance(result, Reject):
            raise result
        return result

    def _checked(self, results: Any, count: int) -> Sequence[Any]:
        if not isinstance(results, Sequence) or isinstance(results, str | bytes) or len(results) != count:
            raise BatchShape(self._node.name, count, results)
        return results

    async def prepare(
        self,
        events: Sequence[Event[Any]],
        entries: Sequence[Entry],
        tried: Sequence[int],
        table: EntryTable,
        workflow: str,
        now: int,
    ) -> bool:
        """Process a batch; `tried` says of each event how often it has failed here.

        Returns:
            False if it failed as a whole: nothing of it is kept, and its events go singly.
        """
        slot = self._node.slot
        contexts: list[Context[Any, Any]] = []
        for event, entry, attempts in zip(events, entries, tried, strict=True):
            context: Context[Any, Any] = Context(workflow, self._node.name, self._settings)
            context._event, context._run, context._hop, context._now_ms = event, entry, 1, now
            context.state, context._attempt = entry.states[slot] if slot >= 0 else None, attempts + 1
            contexts.append(context)
        self._prepared.clear()
        try:
            results = self._process(events, contexts)
            if inspect.isawaitable(results):
                results = await results
            results = self._checked(results, len(events))
        except (Exception, SystemExit):  # noqa: BLE001  user code: which event it was shows when they go singly
            for entry in entries:
                table.restore(self._node, entry)
                entry.restore()
            return False
        for event, result, context in zip(events, results, contexts, strict=True):
            self._prepared[id(event)] = (result, context)
        return True


def batches(call: Call, indexes: Sequence[int], size: int, *, distinct: bool) -> list[list[int]]:
    """Cut the events of a call into batches.

    Args:
        call: The call.
        indexes: Its events that are to be processed, in order.
        size: Events in a batch at most; 0: no limit.
        distinct: A run only once in a batch: its second event needs the state that the first one leaves.
    """
    result: list[list[int]] = []
    level: dict[int, int] = {}
    filled: list[int] = []
    for index in indexes:
        at = 0
        if distinct:
            at = level.get(call.runs[index], 0)
        while at < len(result) and size and filled[at] >= size:
            at += 1
        if at == len(result):
            result.append([])
            filled.append(0)
        result[at].append(index)
        filled[at] += 1
        level[call.runs[index]] = at + 1
    return result
