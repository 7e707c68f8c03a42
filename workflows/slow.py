"""`async` nodes whose calls take longer than an epoch waits: the call goes on, its event stands still meanwhile.

The event comes back now and then and asks. Once the call has ended, all that it did takes effect as if it had just
been made: state, effects, result or error. If the partition has another owner by then, or the process has ended, it is
called again: outside effects happen at least once, as ever.

A run that ends takes its calls with it: they are cancelled. And what ends it need not wait for the calls of others:
they are left to themselves at once, and go on.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .calls import Hasten
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
_SOON: Final = 0.05
"""Seconds that a call is still waited for once somebody waits for its end: to end by itself, or by being cancelled."""
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
    run: tuple[str, int]
    """Key and number."""
    since: float
    asked: float
    void: bool = False
    """Its run ends: nothing of it is taken."""
    release: Callable[[], None] | None = None
    """Called when it is no longer here."""


@dataclass(slots=True)
class SlowCalls:
    """Those of one unit in one process.

    Args:
        deadline: Seconds that a call of the worker may wait for nodes, all its events together.
        hold: Notes that a node goes on with an event, until what it returns is called: see `progress`.
    """

    deadline: float
    hold: Callable[[Event[Any], Context[Any, Any]], Callable[[], None]]
    _going: dict[tuple[int, str, str], _Going] = field(default_factory=dict)
    """By partition, node and `Context.idempotency_key`."""
    _waited: dict[asyncio.Timeout, _Going] = field(default_factory=dict)
    """Those that a call of the worker waits for."""
    _hastened: float = -math.inf
    """When that was last asked: seconds, by the loop's clock."""
    _hasty: dict[int, tuple[str, int]] = field(default_factory=dict)
    """By partition: owner, and up to which of its calls nothing is waited for long."""

    def hasten(self, asked: Hasten) -> None:
        """Runs end: cancel their calls, and wait no longer for what others do in calls that this waits for.

        Calls of other partitions before those that are meant are not waited for, either. To be called on the loop that
        runs the calls.
        """
        self._cancel(asked)
        if asked.through:
            self._hasty[asked.partition] = asked.owner, asked.through
            self._hastened = asyncio.get_running_loop().time()
            for waiting in self._waited:
                self._give_up_soon(waiting)

    def _cancel(self, asked: Hasten) -> None:
        numbers: dict[str, set[int]] = {}
        for key, number in asked.void:
            numbers.setdefault(key, set()).add(number)

        def is_meant(going: _Going) -> bool:
            key, number = going.run
            of_owner = going.partition == asked.partition and going.base[0] == asked.owner
            return of_owner and not {0, number}.isdisjoint(numbers.get(key, ()))

        for place in [place for place, going in self._going.items() if is_meant(going)]:
            self._drop(place)
        for waiting in [waiting for waiting, going in self._waited.items() if is_meant(going)]:
            going = self._waited[waiting]
            going.void = True
            going.task.cancel()
            self._give_up_soon(waiting)

    @staticmethod
    def _give_up_soon(waiting: asyncio.Timeout) -> None:
        soon, until = asyncio.get_running_loop().time() + _SOON, waiting.when()
        if not waiting.expired() and (until is None or until > soon):
            waiting.reschedule(soon)

    def begin(self, partition: int, owner: str, number: int) -> float:
        """A call of the worker begins: when it is to end at the latest, by the loop's clock."""
        now = asyncio.get_running_loop().time()
        if (hasty := self._hasty.get(partition)) is not None and (hasty[0] != owner or number > hasty[1]):
            del self._hasty[partition]
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
                task, since = loop.create_task(_run(process, event, own)), loop.time()
                going = _Going(task, own, base, ctx._partition, _run_of(home), since, since)
                await self._wait(going, self._left(ctx, node.name))
                if going.void:
                    raise StillRuns(0)  # it stands still until its run ends, which it does next
            if not going.task.done():
                going.asked = loop.time()
                self._going[place] = going
                going.release = going.release or self.hold(event, ctx)
                if ctx._writing is not None:  # what it has written is not void: it goes on
                    ctx._writing.going.add(attempted(ctx))
                raise StillRuns(int(1000 * min(_LATEST, max(_SOONEST, (going.asked - going.since) / _PART))))
            self._take(place)
            ctx.state, ctx._effects = going.context.state, going.context._effects
            home.state = going.context.run.state
            return going.task.result()

        return process_patiently

    def _left(self, ctx: Context[Any, Any], node: str) -> float:
        """Seconds that a node is waited for."""
        left = max(0.0, ctx._until - asyncio.get_running_loop().time())
        if ctx._partition in self._hasty or ctx._until - self.deadline <= self._hastened:
            left = min(left, _SOON)
        if any(name == node for _, name, _ in self._going):
            left = min(left, self.deadline / _SHORTER)
        return left

    async def _wait(self, going: _Going, seconds: float) -> None:
        """Until the call has ended, or is not waited for any longer."""
        waiting = asyncio.timeout(seconds)
        try:
            async with waiting:
                self._waited[waiting] = going
                await asyncio.wait((going.task,))
        except TimeoutError:
            return
        except asyncio.CancelledError:
            going.task.cancel()
            raise
        finally:
            self._waited.pop(waiting, None)

    def close(self) -> None:
        """The process ends: nobody asks any more."""
        for place in list(self._going):
            self._drop(place)

    def __len__(self) -> int:
        return len(self._going)

    def _take(self, place: tuple[int, str, str]) -> _Going | None:
        going = self._going.pop(place, None)
        if going is not None and going.release is not None:
            going.release()
        return going

    def _drop(self, place: tuple[int, str, str]) -> None:
        going = self._take(place)
        assert going is not None
        task = going.task
        if task.done():
            task.cancelled() or task.exception()  # nobody else will look at it
        task.cancel()


async def _run(process: Callable[..., Awaitable[Any]], event: Event[Any], ctx: Context[Any, Any]) -> Any:
    return await process(event, ctx)


def _entry(home: Home) -> Entry:
    entry = home.run if isinstance(home, InnerHome) else home
    assert isinstance(entry, Entry)
    return entry


def _run_of(home: Home) -> tuple[str, int]:
    entry = _entry(home)
    return entry.key, entry.number


def _base(node: NodeProgram, home: Home) -> _Base:
    entry = _entry(home)
    return entry.owner, entry.number, entry.blobs[node.slot] if node.slot >= 0 else None, home.shared
