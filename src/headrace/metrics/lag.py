"""How far each log of a workflow's sources is behind, from what its workers have left in the store."""

from __future__ import annotations

from typing import Final

import msgspec

from headrace.actors.spec import ClusterStatus
from headrace.actors.store_registry import Registry
from headrace.metrics.reading import families_left

_LAG: Final = "headrace_source_lag"


class Lag(msgspec.Struct, frozen=True):
    """One log of a source."""

    source: str
    origin: str
    """`readings/3`: which of them, of Kafka a topic partition."""
    process: str
    """The worker that reads it."""
    records: int
    """From what was pulled to the end of the log; up to two seconds old."""


async def lags_of(registry: Registry, status: ClusterStatus) -> list[Lag]:
    """All logs that are known, those that are furthest behind first.

    Raises:
        StoreUnavailable: The store can't be reached.
    """
    workers = [role.role for role in status.roles if role.role is not None and role.role.startswith("worker/")]
    found = [
        Lag(sample.labels["source"], sample.labels["origin"], worker, int(sample.value))
        for worker, family in await families_left(registry, status.workflow, workers)
        if family.name == _LAG
        for sample in family.samples
    ]
    return sorted(found, key=lambda lag: (-lag.records, lag.origin))
