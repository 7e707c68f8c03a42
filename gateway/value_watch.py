"""Callers that wait for values of runs: one reading, whenever it may have changed, for all who wait for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import structlog

from headrace.actors.store_values import RunValues, ValueReader
from headrace.gateway.listening import Listener, Topic
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

PERIOD: Final = 1.0
"""Seconds after which a value is read again that nobody has spoken of: a worker that dies tells no more."""
_AT_ONCE: Final = 50
"""Callers that get their answers before others have their turn."""
Settled: TypeAlias = Callable[[RunValues], bool]
"""Whether a caller has waited long enough, given what there is."""


class ValuePlace(NamedTuple):
    """Where a value lies."""

    workflow: str
    partition: int
    key: str
    name: str


@dataclass(eq=False, slots=True)
class _Waiter:
    settled: Settled
    found: asyncio.Future[RunValues]


@dataclass(eq=False, slots=True)
class _Watched:
    """A value that some wait for."""

    ear: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: dict[_Waiter, None] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class ValueWatcher:
    """Watches values for the callers of one process.

    Args:
        reader: Reads them.
        listener: Says when.
    """

    def __init__(self, reader: ValueReader, listener: Listener) -> None:
        self._reader = reader
        self._listener = listener
        self._watched: dict[ValuePlace, _Watched] = {}
        self._stopping = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return sum(len(watched.waiters) for watched in self._watched.values())

    async def read(self, place: ValuePlace) -> RunValues:
        """What there is now.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return await self._reader.value(*place)

    async def until(self, place: ValuePlace, settled: Settled, within: float) -> RunValues:
        """What there is as soon as it is so that the caller goes; or after so many seconds, whatever it is.

        Raises:
            StoreUnavailable: The store does not answer in the end.
        """
        if within <= 0 or self._stopping.is_set():
            return await self.read(place)
        waiter = _Waiter(settled, asyncio.get_running_loop().create_future())
        watched = self._watched.setdefault(place, _Watched())
        watched.waiters[waiter] = None
        watched.ear.set()
        if watched.task is None:
            watched.task = asyncio.create_task(self._watch(place, watched), name="value-watch")
        try:
            async with asyncio.timeout(within):
                return await waiter.found
        except TimeoutError:
            return await self.read(place)
        finally:
            watched.waiters.pop(waiter, None)
            self._leave(place, watched)

    def _leave(self, place: ValuePlace, watched: _Watched) -> None:
        if not watched.waiters and self._watched.get(place) is watched:
            del self._watched[place]
            watched.ear.set()  # its task finds that there is nobody left

    def stop_waiting(self) -> None:
        """All who wait get what there is, from here on."""
        self._stopping.set()
        for watched in self._watched.values():
            watched.ear.set()

    async def _watch(self, place: ValuePlace, watched: _Watched) -> None:
        keys = PartitionKeys(place.workflow, place.partition)
        with self._listener.listen(Topic.run(keys, place.key), ear=watched.ear):
            while watched.waiters:
                try:
                    async with asyncio.timeout(PERIOD):
                        await watched.ear.wait()
                except TimeoutError:
                    pass
                watched.ear.clear()
                if watched.waiters:
                    await self._look(place, watched)

    async def _look(self, place: ValuePlace, watched: _Watched) -> None:
        try:
            found = await self.read(place)
        except StoreUnavailable as problem:
            _log.info("value_not_read", workflow=place.workflow, reason=problem.cause)
            return
        told = 0
        for waiter in list(watched.waiters):
            if waiter.found.done() or not (self._stopping.is_set() or waiter.settled(found)):
                continue
            waiter.found.set_result(found)
            told += 1
            if told % _AT_ONCE == 0:
                await asyncio.sleep(0)
