"""Which nodes get no events from a worker for now: all its partitions look here; see `workflows.closing`."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.workflows.epoch import Place


@dataclass(slots=True)
class ClosedNodes:
    """Of one worker. Used from its loop only."""

    away: frozenset[Place] = frozenset()
    """Replicas that have been away for longer than an epoch waits."""
    paused: frozenset[str] = frozenset()
    """Nodes that a person has paused."""
