"""A unit runs a traced event: by nodes that note when they had it, and that show its span to the user's code."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from .calls import Call, Hop
from .context import Context
from .events import Event
from .program import NodeProgram
from .records import Headers
from .tracing import node_span_id

Attributes: TypeAlias = dict[str, Any]
Scope: TypeAlias = Callable[[bytes, bytes, Headers], AbstractContextManager[Attributes]]
"""Makes a span the current one for the user's code. Gets the trace's id, the span's, and the event's headers; gives the
attributes that the code sets on the span, which are there when it ends."""
Batch: TypeAlias = tuple[int, int]
"""When a batch was processed: beginning, in nanoseconds since 1970 UTC, and length in nanoseconds."""
_ID: Final = 16
"""Bytes of a trace's id."""


@dataclass(slots=True)
class _Had:
    """What a node made of an event."""

    result: Any = None
    attributes: Attributes | None = None


class TracedEvent:
    """One traced event of a call.

    Args:
        call: The call.
        index: Which of its events.
        context: See `Call.traced`.
        hops: Gets what becomes spans.
        scope: Shows spans to the user's code; None: nobody asked.
        batch: When its batch was processed, if it was.
    """

    def __init__(
        self,
        call: Call,
        index: int,
        context: bytes,
        hops: list[Hop],
        scope: Scope | None,
        batch: Batch | None = None,
    ) -> None:
        self._index = index
        self._trace, self._span = context[:_ID], context[_ID:]
        self._base = len(call.paths[index]) if call.paths else 0
        self._hops = hops
        self._scope = scope
        self._batch = batch

    @contextmanager
    def noted(self, node: NodeProgram, event: Event[Any], ctx: Context[Any, Any]) -> Iterator[_Had]:
        """A node has the event while this lasts."""
        had, hop = _Had(), ctx._hop
        began, started = time.time_ns(), time.perf_counter_ns()
        try:
            if self._scope is None:
                yield had
            else:
                own = node_span_id(self._span, node.name, event.path, hop)
                with self._scope(self._trace, own, event.raw_headers) as had.attributes:
                    yield had
        finally:
            took = time.perf_counter_ns() - started
            if self._batch is not None:
                (began, took), self._batch = self._batch, None
            self._hops.append(
                Hop(
                    self._index, event.path[self._base :], node.index, hop, began, took, _said(had.result),
                    had.attributes or None,
                )
            )  # fmt: skip


def parts(
    call: Call, indexes: Sequence[int], hops: list[Hop], scope: Scope | None, batch: Batch | None = None
) -> Iterator[tuple[Sequence[int], TracedEvent | None]]:
    """A call's events in their order, cut where one is traced: that one is a part by itself."""
    if call.traced is None:
        yield indexes, None
        return
    traced, done = dict(call.traced), 0
    for at in [at for at, index in enumerate(indexes) if index in traced]:
        if at > done:
            yield indexes[done:at], None
        index, done = indexes[at], at + 1
        yield (index,), TracedEvent(call, index, traced[index], hops, scope, batch)
    if done < len(indexes):
        yield indexes[done:], None


def noting(nodes: Sequence[NodeProgram]) -> list[NodeProgram]:
    """The same nodes, for traced events: contexts have these, as `_traced`."""
    return [_noting(node) for node in nodes]


def _noting(node: NodeProgram) -> NodeProgram:
    copied, process = copy.copy(node), node.process

    def call(event: Event[Any], ctx: Context[Any, Any]) -> Any:
        traced: TracedEvent = ctx._traced
        with traced.noted(node, event, ctx) as had:
            had.result = process(event, ctx)
        return had.result

    async def call_async(event: Event[Any], ctx: Context[Any, Any]) -> Any:
        traced: TracedEvent = ctx._traced
        with traced.noted(node, event, ctx) as had:
            had.result = await process(event, ctx)
        return had.result

    copied.process = call_async if node.is_async else call
    return copied


def _said(result: Any) -> str:
    """What a node returned, in a word."""
    if result is None:
        return ""
    return str(result.name) if isinstance(result, Enum) else type(result).__name__
