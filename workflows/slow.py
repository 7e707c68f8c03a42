"""`async` nodes whose calls take longer than an epoch waits: the call goes on, its event stands still meanwhile.

The event comes back now and then and asks. Once the call has ended, all that it did takes effect as if it had just
been made: state, effects, result or error. If the partition has another owner by then, or the process has ended, it is
called again: outside effects happen at least once, as ever.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .context import Context
from .entries import Entry, Home, InnerHome
from .events import Event
from .program import NodeProgram
from .streaming import attempted

FORGET: Final = 600.0
"""Seconds after which nobody will ask any more: the run has ended, or its partition is elsewhere."""
_SHORTER: Final = 10
"""So many times less is waited while another call of the node is slow: one must not hold up each epoch anew."""
_SOONEST: Final = 0.1
_LATEST: Final = 5.0
_PART: Final = 4
"""It comes back after this part of the time that the call has taken so far."""
_Base: TypeAlias = tuple[str, int, bytes | None, bytes | None]
"""Owner, number of the run, and the states that a call began with."""


class StillRuns(Exception):
    """The call goes on; come back."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait
        """Milliseconds."""


@dataclass(slots=True)
class _Going:
    """One call that its event does not wait for."""

    task: asyncio.Task[Any]
    context: Context[Any, Any]
    """Its own: nobody else uses it."""
    base: _Base
    partition: int
    since: float
    asked: float


@dataclass(slots=True)
class SlowCalls:
    """Those of one unit in one process.

    Args:
        deadline: Seconds that a call of the worker may wait for nodes, all its events together.
    """

    deadline: float
    _going: dict[tuple[int, str, str], _Going] = field(default_factory=dict)
    """By partition, node and `Context.idempotency_key`."""

    def begin(self, partition: int, owner: str) -> float:
        """A call of the worker begins: when it is to end at the latest, by the loop's clock."""
        now = asyncio.get_running_loop().time()
        for place, going in list(self._going.items()):
            if (place[0] == partition and going.base[0] != owner) or now - going.asked > FORGET:
                self._drop(place)
        return now + self.deadline

    def patient(self, node: NodeProgram) -> Callable[..., Awaitable[Any]]:
        """The `process` of an async node, which raises `StillRuns` when it takes too long."""
        process = node.process

        async def process_patiently(event: Event[Any], ctx: Context[Any, Any]) -> Any:
            loop = asyncio.get_running_loop()
            home: Any = ctx._run
            place = (ctx._partition, node.name, ctx.idempotency_key)
            base, going = _base(node, home), self._going.get(place)
            if going is not None and going.base != base:
                self._drop(place)
                going = None
            if going is None:
                own = copy.copy(ctx)
                own._run = copy.copy(home)
                going = _Going(
                    loop.create_task(_run(process, event, own)), own, base, ctx._partition, loop.time(), loop.time()
                )
                left = max(0.0, ctx._until - loop.time())
                if any(name == node.name for _, name, _ in self._going):
                    left = min(left, self.deadline / _SHORTER)
                try:
                    await asyncio.wait((going.task,), timeout=left)
                except asyncio.CancelledError:
                    going.task.cancel()
                    raise
            if not going.task.done():
                going.asked = loop.time()
                self._going[place] = going
                if ctx._writing is not None:  # what it has written is not void: it goes on
                    ctx._writing.going.add(attempted(ctx))
                raise StillRuns(int(1000 * min(_LATEST, max(_SOONEST, (going.asked - going.since) / _PART))))
            self._going.pop(place, None)
            ctx.state, ctx._effects = going.context.state, going.context._effects
            home.state = going.context.run.state
            return going.task.result()

        return process_patiently

    def close(self) -> None:
        """The process ends: nobody asks any more."""
        for place in list(self._going):
            self._drop(place)

    def __len__(self) -> int:
        return len(self._going)

    def _drop(self, place: tuple[int, str, str]) -> None:
        task = self._going.pop(place).task
        if task.done():
            task.cancelled() or task.exception()  # nobody else will look at it
        task.cancel()


async def _run(process: Callable[..., Awaitable[Any]], event: Event[Any], ctx: Context[Any, Any]) -> Any:
    return await process(event, ctx)


def _base(node: NodeProgram, home: Home) -> _Base:
    entry = home.run if isinstance(home, InnerHome) else home
    assert isinstance(entry, Entry)
    return entry.owner, entry.number, entry.blobs[node.slot] if node.slot >= 0 else None, home.shared
