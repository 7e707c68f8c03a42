"""Sessions that are open in this process: how many there are, and to let them go when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OpenSessions:
    """The sessions of one gateway process."""

    def __init__(self) -> None:
        self._leaving: set[Callable[[], None]] = set()
        self._none = asyncio.Event()
        self._none.set()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._leaving)

    @contextmanager
    def opened(self, leave: Callable[[], None]) -> Iterator[None]:
        """One is open.

        Args:
            leave: Tells it that this process is about to end.
        """
        self._leaving.add(leave)
        self._none.clear()
        try:
            yield
        finally:
            self._leaving.discard(leave)
            if not self._leaving:
                self._none.set()

    def stop_waiting(self) -> None:
        """All are told to end: they come again, to another process."""
        for leave in list(self._leaving):
            leave()

    async def closed(self, seconds: float) -> None:
        """Wait until all have said good-bye, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._none.wait()
        except TimeoutError:
            return
