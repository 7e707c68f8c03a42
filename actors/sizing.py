"""How many events an epoch may have: enough to keep every unit and the store busy for milliseconds, not longer."""

from __future__ import annotations

from itertools import islice
from typing import Final

from headrace.workflows.calls import CallResult
from headrace.workflows.saving import Save

TARGET: Final = 0.012
"""Seconds of work that one call should bring to its unit: a Ray call costs 1 ms whatever it holds, and a
request that comes meanwhile waits for what is under way."""
RUNS: Final = 1_000
"""Runs that one commit should write: the store does nothing else for about 4 ms."""
BYTES: Final = 1 << 20
"""Bytes that one commit should write."""
LEAST: Final = 16
MOST: Final = 5_000
_WEIGHT: Final = 0.2
_SAMPLE: Final = 40


class Sizing:
    """Learns what an event costs in each unit, and what it leaves to commit."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._runs = self._bytes = 0.0
        self.limit = 500
        """Events for the next epoch; a modest guess until something has been measured."""

    def learn(self, result: CallResult) -> None:
        """A call was measured. One of few events says little of many, unless it took long."""
        count = len(result.codes)
        if count:
            cost = result.seconds / count
            known = self._seconds.get(result.unit, cost)
            weight = _WEIGHT * min(1.0, max(result.seconds / TARGET, count / self.limit))
            self._seconds[result.unit] = known + weight * (cost - known)
            self._decide()

    def learn_commit(self, save: Save) -> None:
        """An epoch is to be committed."""
        runs = save.commit.runs
        if save.events:  # one that writes no runs counts, too: they may all have begun by now, and have no state
            sample = [sum(map(len, fields)) for fields in islice(runs.values(), _SAMPLE)]
            size = len(runs) * sum(sample) / max(1, len(sample))
            self._runs += _WEIGHT * (len(runs) / save.events - self._runs)
            self._bytes += _WEIGHT * (size / save.events - self._bytes)
            self._decide()

    def _decide(self) -> None:
        slowest = max(self._seconds.values(), default=0.0)
        limits = [(TARGET, slowest), (RUNS, self._runs), (BYTES, self._bytes)]
        self.limit = max(LEAST, min(MOST, *(int(budget / cost) for budget, cost in limits if cost > 0), MOST))
