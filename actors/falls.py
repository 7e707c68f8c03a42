"""How many workers of a partition were ended one after the other, and what follows from that; see `death_book`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from headrace.workflows.calls import Call
from headrace.workflows.commit import Answer, Head
from headrace.workflows.store import StoreUnavailable

WELL: Final = 60.0
"""Seconds after which an owner has not been ended by what ended those before it."""


class _Store(Protocol):
    def calm(self, partition: int, owner: str, *, released: bool) -> Awaitable[Answer]: ...


class Falls:
    """Of one partition, as long as a worker has it.

    Args:
        partition: Its number.
        store: The store.
        clock: Monotonic seconds.
    """

    def __init__(self, partition: int, store: _Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._partition = partition
        self._store = store
        self._clock = clock
        self._since = 0.0
        self._count = 0

    def begin(self, head: Head) -> None:
        """It was acquired."""
        self._count, self._since = int(head.extra.get("falls", 0)), self._clock()

    def tell(self, call: Call) -> None:
        """The call is about to be made: who runs it knows."""
        call.falls = max(call.falls, self._count)

    async def look(self, owner: str) -> None:
        """All is well once we have had it for a while.

        Raises:
            StoreUnavailable: Ask again.
        """
        if self._count and self._clock() - self._since > WELL:
            await self._store.calm(self._partition, owner, released=False)
            self._count = 0

    async def released(self, owner: str) -> None:
        """We give it up in order; where the store does not hear of that, it only makes the next owner careful."""
        with suppress(StoreUnavailable):
            await self._store.calm(self._partition, owner, released=True)
