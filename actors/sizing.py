"""How many events an epoch may have: enough to keep every unit and the store busy for milliseconds, not longer."""

from __future__ import annotations

import time
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
TURNS: Final = 16
"""Events of one run in an epoch, where a run has one event at a time in a graph of several processes: each takes a
millisecond or two for each of these, and all others of the epoch are committed with the last."""
HURRIED: Final = 0.25
"""Share of the seconds while requests come."""
HURRIED_COMMIT: Final = 0.5
"""Share of what one commit should write, then."""
HURRY: Final = 0.5
"""Seconds since the last request for which more are expected."""
LEAST: Final = 16
MOST: Final = 5_000
_WEIGHT: Final = 0.2
_SAMPLE: Final = 40


class Sizing:
    """Learns what an event costs in each unit, and what it leaves to commit."""

    def __init__(self) -> None:
        self._work: dict[int, tuple[float, float]] = {}
        """By unit: seconds and events of its latest calls, the older the less."""
        self._runs = self._bytes = self._turns = 0.0
        self._limit = 500
        self._hurried_limit = int(self._limit * HURRIED)
        self._hurried = float("-inf")

    @property
    def limit(self) -> int:
        """Events for the next epoch; a modest guess until something has been measured."""
        return self._hurried_limit if self.hurried else self._limit

    @property
    def hurried(self) -> bool:
        """Requests have come a moment ago, so more are expected."""
        return time.monotonic() - self._hurried < HURRY

    def hurry(self) -> None:
        """Requests have come: epochs are short for a while."""
        self._hurried = time.monotonic()

    def learn(self, result: CallResult) -> None:
        """A call was measured. One of few events says little of many, unless it took long.

        So seconds and events are added up, and what was before fades by what comes: the first call, which is slow
        whatever it brings, is outweighed by those that follow, also where all of a unit's are small.
        """
        count = len(result.codes)
        if count:
            seconds, events = self._work.get(result.unit, (0.0, 0.0))
            rest = 1.0 - _WEIGHT * min(1.0, max(result.seconds / TARGET, count / self.limit))
            self._work[result.unit] = rest * seconds + result.seconds, rest * events + count
            self._decide()

    def learn_commit(self, save: Save) -> None:
        """An epoch is to be committed."""
        runs = save.commit.runs
        if save.events:  # one that writes no runs counts, too: they may all have begun by now, and have no state
            sample = [sum(map(len, fields)) for fields in islice(runs.values(), _SAMPLE)]
            size = len(runs) * sum(sample) / max(1, len(sample))
            self._runs += _WEIGHT * (len(runs) / save.events - self._runs)
            self._bytes += _WEIGHT * (size / save.events - self._bytes)
            self._learn_turns(save)
            self._decide()

    def _learn_turns(self, save: Save) -> None:
        """What part of an epoch its hottest run has. Too much counts at once; of a small epoch the rest says little."""
        part = max(0, save.longest - 1) / save.events
        if save.longest > TURNS:
            self._turns = max(self._turns, part)
        self._turns += _WEIGHT * min(1.0, save.events / self._limit) * (part - self._turns)

    def _decide(self) -> None:
        slowest = max((seconds / events for seconds, events in self._work.values()), default=0.0)
        self._limit = self._fitting(slowest, 1.0, 1.0)
        self._hurried_limit = self._fitting(slowest, HURRIED, HURRIED_COMMIT)

    def _fitting(self, slowest: float, work: float, commit: float) -> int:
        """Events for which these shares of all budgets suffice."""
        budgets = [
            (TARGET * work, slowest), (RUNS * commit, self._runs), (BYTES * commit, self._bytes), (TURNS, self._turns)
        ]  # fmt: skip
        return max(LEAST, min(MOST, *(int(budget / cost) for budget, cost in budgets if cost > 0), MOST))
