"""The time, as a worker tells it to the core: that of the store, so that workers on several hosts agree on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from headrace.workflows.store import StoreUnavailable

log = structlog.get_logger(__name__)

DRIFT: Final = 0.0002
"""How far two hosts' clocks may run apart, part of the time that passes (200 ppm, a bad quartz)."""
FAR_MS: Final = 1000
"""A host whose clock differs so much from the store's is told of, once."""


class StoreClock:
    """Milliseconds since 1970 UTC by the store's clock, told from this host's monotonic one.

    A look at the store's time is as exact as half of the time that it took. Of several the best one counts,
    and each ages, as clocks run apart; one that contradicts it means that the store's clock was set, or that
    another server has taken over. Until the first look it is this host's clock. It never goes back.

    Args:
        monotonic: Seconds of a clock that is never set.
        host: Seconds since 1970 by this host's clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, host: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._host = host
        self._offset = (host() - monotonic()) * 1000
        self._error = float("inf")
        """How far `_offset` may be off, in milliseconds, when it was measured."""
        self._measured = monotonic()
        self._last = 0
        self._told = False

    def now_ms(self) -> int:
        """The time; the same or later than what was told before."""
        now = int(self._monotonic() * 1000 + self._offset)
        self._last = max(now, self._last)
        return self._last

    @property
    def host_ahead_ms(self) -> int:
        """How far this host's own clock is ahead of the store's, as far as known."""
        return round((self._host() - self._monotonic()) * 1000 - self._offset)

    async def look(self, store_time: Callable[[], Awaitable[int]]) -> None:
        """Ask the store for its time, in milliseconds; while it is away the clock goes on as it did."""
        asked = self._monotonic()
        try:
            told = await store_time()
        except StoreUnavailable:
            return
        self.learn(asked, self._monotonic(), told)

    def learn(self, asked: float, answered: float, told: int) -> None:
        """The store told `told` (milliseconds), some time between two readings of the monotonic clock."""
        error = (answered - asked) * 500 + 1  # it tells whole milliseconds
        offset = told + 0.5 - (asked + answered) * 500
        known = self._error + (answered - self._measured) * 1000 * DRIFT
        if error < known or abs(offset - self._offset) > error + known:
            self._offset, self._error, self._measured = offset, error, answered
        if abs(self.host_ahead_ms) > FAR_MS and not self._told:
            self._told = True
            log.warning("clock_far", host_ahead_ms=self.host_ahead_ms, cure="let NTP set the clock of this host")
