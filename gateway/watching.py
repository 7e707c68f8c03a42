"""Callers that wait until a run changes: all runs that are watched are looked at together, however many watch."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from headrace.actors.run_heads import RunHead, RunPlace, run_heads
from headrace.actors.store_registry import Registry
from headrace.gateway.tasks import end
from headrace.workflows.store import StoreUnavailable

log = structlog.get_logger(__name__)

PERIOD: Final = 0.05
"""Seconds between two looks."""
_AT_ONCE: Final = 500


class RunWatcher:
    """Watches runs for the callers of one process.

    Args:
        registry: The store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._watched: dict[RunPlace, list[tuple[str, asyncio.Event]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return sum(map(len, self._watched.values()))

    async def until_changed(self, place: RunPlace, version: str, within: float) -> None:
        """Wait until a run is at another version, or is gone, but not longer than so many seconds."""
        if self._stopping:
            return
        changed = asyncio.Event()
        row = (version, changed)
        self._watched.setdefault(place, []).append(row)
        if self._task is None:
            self._task = asyncio.create_task(self._look_forever(), name="run-watcher")
        try:
            async with asyncio.timeout(within):
                await changed.wait()
        except TimeoutError:
            pass
        finally:
            left = [each for each in self._watched.get(place, ()) if each is not row]
            if left:
                self._watched[place] = left
            else:
                self._watched.pop(place, None)

    def stop_waiting(self) -> None:
        """All who wait have waited long enough, from here on."""
        self._stopping = True
        for rows in self._watched.values():
            for _, changed in rows:
                changed.set()

    async def close(self) -> None:
        """Look no more; idempotent."""
        self.stop_waiting()
        task, self._task = self._task, None
        if task is not None:
            await end([task])

    async def _look_forever(self) -> None:
        try:
            while self._watched:
                await asyncio.sleep(PERIOD)
                await self._look()
        finally:
            self._task = None

    async def _look(self) -> None:
        places = list(self._watched)
        try:
            for start in range(0, len(places), _AT_ONCE):
                chunk = places[start : start + _AT_ONCE]
                for place, head in zip(chunk, await run_heads(self._registry, chunk), strict=True):
                    self._tell(place, head)
        except StoreUnavailable as problem:
            log.info("runs_not_looked_at", runs=len(places), reason=problem.cause)

    def _tell(self, place: RunPlace, head: RunHead | None) -> None:
        for version, changed in self._watched.get(place, ()):
            if head is None or head.version != version:
                changed.set()
