"""How long partitions stand still: the longest time between two commits of each, as the store tells."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final, Self

from headrace.actors.store import Store

_EVERY: Final = 0.01


class Standstill:
    """Looks at the heads of all partitions until it is left; only says something where events never stop coming.

    Args:
        redis_url: The store.
        workflow: Its name.
        partitions: How many it has.
    """

    def __init__(self, redis_url: str, workflow: str, partitions: int) -> None:
        self._url, self._workflow, self._partitions = redis_url, workflow, partitions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True)
        self.longest = [0.0] * partitions
        """Seconds, by partition."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def sentence(self) -> str:
        """The figures, the longest first."""
        figures = ", ".join(f"{seconds:.2f} s" for seconds in sorted(self.longest, reverse=True))
        return f"longest time without a commit, by partition: {figures}"

    async def _watch(self) -> None:
        async with Store(self._url, self._workflow, connections=1) as store:
            last = [(time.monotonic(), -1)] * self._partitions
            while not self._stop.is_set():
                for number in range(self._partitions):
                    sequence, now = (await store.head(number)).sequence, time.monotonic()
                    since, before = last[number]
                    self.longest[number] = max(self.longest[number], now - since)
                    if sequence != before:
                        last[number] = (now, sequence)
                await asyncio.sleep(_EVERY)
