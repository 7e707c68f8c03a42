"""Which deployed workflows are lost, and when it is time to try again to bring them back. Pure; told the time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from headrace.actors.revival import Report

GRACE: Final = 6.0
"""Seconds without a lease: longer than Ray takes to restart a supervisor that died."""
SETTLE: Final = 30.0
"""Seconds that a workflow that was brought back has until its supervisor holds the lease."""
_FIRST: Final = 2.0
_LONGEST: Final = 30.0


@dataclass(slots=True)
class _Entry:
    lost_since: float | None = None
    retry_at: float = 0.0
    failures: int = 0
    reason: str = ""


@dataclass(slots=True)
class Counters:
    """Since the process started; rising only."""

    rounds: int = 0
    attempts: int = 0
    revived: int = 0
    failures: int = 0
    store_errors: int = 0


@dataclass(slots=True)
class Watchlist:
    """What is to run, and how it stands."""

    counters: Counters = field(default_factory=Counters)
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def seen(self, wanted: Iterable[str], running: Iterable[str], now: float) -> list[str]:
        """Note what the store says.

        Args:
            wanted: Workflows that are to run on this cluster.
            running: Those of which a supervisor holds its lease.
            now: Seconds, by a clock that only rises.

        Returns:
            Those that have been lost just now.
        """
        self.counters.rounds += 1
        names, alive = set(wanted), set(running)
        self._entries = {name: self._entries.get(name, _Entry()) for name in sorted(names)}
        lost = []
        for name, entry in self._entries.items():
            if name in alive:
                entry.lost_since, entry.failures, entry.reason, entry.retry_at = None, 0, "", 0.0
            elif entry.lost_since is None:
                entry.lost_since = now
                lost.append(name)
        return lost

    def store_away(self) -> None:
        """The store does not answer: leases say nothing until they had time to be renewed."""
        self.counters.store_errors += 1
        for entry in self._entries.values():
            entry.lost_since = None

    def due(self, now: float) -> list[str]:
        """What is to be brought back now."""
        return [
            name
            for name, entry in self._entries.items()
            if entry.lost_since is not None and now - entry.lost_since >= GRACE and now >= entry.retry_at
        ]

    def tried(self, names: Iterable[str], report: Report, now: float) -> None:
        """Note what became of an attempt for these workflows."""
        self.counters.attempts += 1
        outcomes = {revival.workflow: revival for revival in report.revivals}
        for name in names:
            entry = self._entries.get(name)
            revival = outcomes.get(name)
            if entry is None:
                continue
            if revival is not None and revival.outcome in ("revived", "there", "running", "stopped"):
                self.counters.revived += revival.outcome == "revived"
                entry.failures, entry.reason, entry.retry_at = 0, "", now + SETTLE
            else:
                self.counters.failures += 1
                entry.failures += 1
                entry.reason = revival.reason if revival is not None else report.error or "no answer"
                entry.retry_at = now + min(_LONGEST, _FIRST * 2.0 ** (entry.failures - 1))

    @property
    def watched(self) -> list[str]:
        """All that are to run."""
        return list(self._entries)

    @property
    def lost(self) -> dict[str, str]:
        """Those that don't run -> why the last attempt failed, if there was one."""
        return {name: entry.reason for name, entry in self._entries.items() if entry.lost_since is not None}
