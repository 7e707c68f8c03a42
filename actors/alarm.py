"""Wakes a partition when something of it is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_LATE: Final = 0.0005
"""Seconds after which it rings, as times are whole milliseconds."""


class Alarm:
    """One time to wake at, the earliest of those asked for. Used from one loop only.

    Args:
        ring: Called then.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_ring = ring
        self._at = 0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due: int, now: int) -> None:
        """Ring at `due`, or when it was to ring, whichever is earlier; both in milliseconds since 1970 UTC."""
        if self._handle is not None:
            if due >= self._at:
                return
            self._handle.cancel()
        self._at = due
        self._handle = self._loop.call_later(max(0, due - now) / 1000 + _LATE, self._ring)

    def stop(self) -> None:
        """Don't ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        self._on_ring()
