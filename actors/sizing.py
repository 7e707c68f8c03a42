"""How many events an epoch may have: as many as keep every unit busy for a few milliseconds, not longer."""

from __future__ import annotations

from typing import Final

from headrace.workflows.calls import CallResult

TARGET: Final = 0.012
"""Seconds of work that one call should bring to its unit: a Ray call costs 1 ms whatever it holds, and a
request that comes meanwhile waits for what is under way."""
LEAST: Final = 16
MOST: Final = 5_000
_WEIGHT: Final = 0.2


class Sizing:
    """Learns what an event costs in each unit."""

    def __init__(self) -> None:
        self._cost: dict[int, float] = {}
        self.limit = 500
        """Events for the next epoch; a modest guess until something has been measured."""

    def learn(self, result: CallResult) -> None:
        """One more call was measured."""
        count = len(result.codes)
        if not count:
            return
        cost = result.seconds / count
        known = self._cost.get(result.unit)
        self._cost[result.unit] = cost if known is None else known + _WEIGHT * (cost - known)
        slowest = max(self._cost.values())
        self.limit = max(LEAST, min(MOST, int(TARGET / slowest))) if slowest > 0 else MOST
