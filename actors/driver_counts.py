"""What a partition's driver has counted, over all cores that it has had."""

from __future__ import annotations

from collections import Counter

from headrace.actors.pulling import Pulling
from headrace.workflows.partition import PartitionCore


class DriverCounts:
    """Base of `PartitionDriver`: its core, if it has one now, and what earlier ones had counted."""

    def __init__(self, pulling: Pulling) -> None:
        self._core: PartitionCore | None = None
        self._pulling = pulling
        self._events_before = self._dead_before = 0
        self._moved_before: Counter[str] = Counter()

    def _count(self, core: PartitionCore) -> None:
        """A core is let go of."""
        self._events_before += core.events_done
        self._dead_before += core.dead_count
        self._moved_before += core.moved

    @property
    def events(self) -> int:
        """Events committed since this worker has the partition."""
        return self._events_before + (self._core.events_done if self._core else 0)

    @property
    def dead(self) -> int:
        """Dead letters since this worker has the partition."""
        return self._dead_before + (self._core.dead_count if self._core else 0)

    @property
    def epochs_in_flight(self) -> int:
        """Epochs begun and not committed."""
        return len(self._core.epochs) if self._core else 0

    @property
    def events_in_flight(self) -> int:
        """Events of those epochs, and those that a batch node lets wait."""
        return sum(epoch.count for epoch in self._core.epochs) + self._pulling.held if self._core else 0

    @property
    def runs_held(self) -> int:
        """Runs whose state is in memory."""
        return len(self._core.runs) if self._core else 0

    @property
    def parked(self) -> Counter[str]:
        """Events that stand still, by node; "": those that have not begun."""
        return self._core.parking.by_node() if self._core else Counter()

    @property
    def moved(self) -> Counter[str]:
        """Events sent on to the partitions of their keys, by source, since this worker has the partition."""
        return self._moved_before + (self._core.moved if self._core else Counter())
