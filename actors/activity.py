"""When a process worked, and what that cost: its first and last piece of work, in time and in CPU time."""

from __future__ import annotations

import time


class Activity:
    """Counters for the status document; benchmarks take throughput and CPU per event from them."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def begin(self) -> None:
        """A piece of work begins; the first one counts."""
        if self._first is None:
            self._first = (time.time(), time.process_time())

    def done(self) -> None:
        """A piece of work is done; the last one counts."""
        self._last = (time.time(), time.process_time())

    def counters(self) -> dict[str, int | float]:
        """Seconds since 1970 UTC of the first and last work, and CPU seconds of the process between them."""
        if self._first is None:
            return {}
        began, cpu = self._first
        ended, cpu_ended = self._last
        return {"worked_from": began, "worked_until": ended, "worked_cpu": max(0.0, cpu_ended - cpu)}
