"""Keeps the dead letters of a partition within the limits of its workflow, and counts what was dropped for that."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from headrace.workflows.retention import LettersKept

log = structlog.get_logger(__name__)

EVERY: Final = 10.0
"""Seconds between two looks: age goes on without commits."""
_EXPECTED: Final = "age"
"""The limit that letters reach as they should; the others say that there are more than was thought of."""


class _Store(Protocol):
    def trim_letters(self, partition: int, owner: str) -> Awaitable[LettersKept | None]: ...


class LetterKeeping:
    """Of one partition, as long as a worker has it.

    Args:
        partition: Its number.
        store: The store.
        on_dropped: Told by which limit, and how many letters, were dropped since it was told last.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        partition: int,
        store: _Store,
        on_dropped: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partition = partition
        self._store = store
        self._on_dropped = on_dropped
        self._clock = clock
        self._next = 0.0
        self.kept = LettersKept()
        """What there was at the last look."""
        self.dropped = 0
        """Since this worker has the partition."""

    async def begin(self, owner: str) -> None:
        """It was acquired, by this token: what was dropped before is not counted here.

        Raises:
            StoreUnavailable: Ask again.
        """
        self.kept = await self._store.trim_letters(self._partition, owner) or self.kept

    async def look(self, owner: str) -> None:
        """Drop what is over a limit, if it is time to.

        Raises:
            StoreUnavailable: Ask again.
        """
        if self._clock() < self._next:
            return
        found = await self._store.trim_letters(self._partition, owner)
        if found is None:
            return  # the partition is another owner's, or torn: whoever commits next is told
        self._next = self._clock() + (EVERY if found.is_done else 0.0)
        before, self.kept = self.kept, found
        for cap, count in found.dropped.items():
            new = count - before.dropped.get(cap, 0)
            if new <= 0:
                continue  # fewer: the store lost its tail
            self.dropped += new
            self._on_dropped(cap, new)
            (log.info if cap == _EXPECTED else log.warning)(
                "dead_letters_dropped", partition=self._partition, over=cap, count=new, kept=found.count
            )
