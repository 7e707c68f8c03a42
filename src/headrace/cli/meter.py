"""Totals and rates of a workflow, from the counters in its status documents."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from headrace.actors.spec import ClusterStatus

WINDOW: Final = 3.0
"""Seconds over which a rate is taken."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all workers have done together since the meter began."""

    events: int = 0
    outputs: int = 0
    dead_letters: int = 0
    letters_dropped: int = 0
    """Dead letters that were too old, or too many."""
    waiting: int = 0
    """Outputs that are committed and have not left."""
    lag: int = 0
    """Records that were not pulled yet."""
    sent_on: int = 0
    """Events that arrived at another partition than that of their key, and were sent there."""
    ended: bool = False
    """The run of an unkeyed workflow has ended."""


class Meter:
    """Adds up counters over restarts: a process that begins again counts from zero."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int | None], dict[str, int | float]] = {}
        self._events: dict[str, deque[tuple[float, float]]] = {}
        self._now: list[dict[str, int | float]] = []

    def take(self, status: ClusterStatus) -> None:
        """Note the counters of a status document."""
        self._now = []
        for role in status.roles:
            if role.role is None or not role.counters:
                continue
            self._counted[role.role, role.incarnation] = role.counters
            seen = self._events.setdefault(role.role, deque())
            seen.append((status.time, self._sum("events", role.role)))
            while seen[0][0] < status.time - WINDOW and seen[1][0] < status.time:
                seen.popleft()
            if role.role.startswith("worker/"):
                self._now.append(role.counters)

    def rate(self, role: str) -> float:
        """Events a second of one role, over the last seconds."""
        seen = self._events.get(role)
        if not seen or seen[-1][0] <= seen[0][0]:
            return 0.0
        return max(0.0, (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]))

    @property
    def worker_rate(self) -> float:
        """Events a second of all workers together."""
        return sum(self.rate(role) for role in self._events if role.startswith("worker/"))

    def totals(self) -> Totals:
        """All of it now."""
        return Totals(
            events=int(self._sum("events", "worker/")),
            outputs=int(self._sum("outputs", "worker/")),
            dead_letters=int(self._sum("dead_letters", "worker/")),
            letters_dropped=int(self._sum("letters_dropped", "worker/")),
            waiting=int(sum(counters.get("outputs_waiting", 0) for counters in self._now)),
            lag=int(sum(counters.get("lag", 0) for counters in self._now)),
            sent_on=int(self._sum("sent_on", "worker/")),
            ended=any(counters.get("ended", 0) for counters in self._now),
        )

    def _sum(self, counter: str, role: str) -> float:
        return sum(
            counters.get(counter, 0)
            for (name, _), counters in self._counted.items()
            if name == role or (role.endswith("/") and name.startswith(role))
        )
