"""Feeds a worker with the records of its users' own sources: one pump for each split of its partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from headrace.sources.feeding import Surroundings
from headrace.sources.problems import Problems
from headrace.sources.reader import Reached
from headrace.sources.split_pump import SplitPump, origin_of
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

_log = structlog.get_logger(__name__)


def make_readers(sources: Sequence[SourcePlan], surroundings: Surroundings) -> list[CustomReader]:
    """One for each source; see `Feeder`."""
    return [CustomReader(plan, surroundings) for plan in sources]


class CustomReader:
    """The `Reader` of one source of a user's own; see there for who calls what when."""

    def __init__(self, plan: SourcePlan, surroundings: Surroundings) -> None:
        self._plan = plan
        self._surroundings = surroundings
        self._problems = Problems(surroundings.on_problem)
        self._splits: dict[int, list[str]] = {}
        self._pumps: dict[int, list[SplitPump]] = {}
        self._turn = 0
        self.paused: frozenset[int] = frozenset()

    async def open(self) -> None:
        """Ask the source for its splits, and say how often its records count."""
        source = self._plan.source
        for split in source.splits():
            home = partition_of(split, self._surroundings.partitions) if self._surroundings.keyed else 0
            self._splits.setdefault(home, []).append(split)
        _log.info("source_delivery", source=self._plan.name, delivery=source.delivery, of=type(source).__name__)

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """Read the partition's splits on from `positions`; what was buffered for them is dropped."""
        await self.revoke(partition)
        self._pumps[partition] = [
            SplitPump(
                self._plan, split, positions.get(origin_of(self._plan, split)), self._problems,
                partial(self._changed, partition),
            )
            for split in self._splits.get(partition, [])
        ]  # fmt: skip

    async def revoke(self, partition: int) -> None:
        """Read the partition's splits no more."""
        await asyncio.gather(*(pump.stop() for pump in self._pumps.pop(partition, [])))

    def _changed(self, partition: int) -> None:
        self._tell_if_closed(partition)
        self._surroundings.on_ready(partition)

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived, of one split after the other; never waits."""
        pumps = [] if self._plan.index in self.paused else self._pumps.get(partition, [])
        pulled: list[Records] = []
        self._turn += 1
        turn = self._turn % len(pumps) if pumps else 0
        for pump in pumps[turn:] + pumps[:turn]:
            pulled += pump.take(limit - sum(map(len, pulled)))
        if pulled:
            self._tell_if_closed(partition)
        return pulled

    def _tell_if_closed(self, partition: int) -> None:
        pumps = self._pumps.get(partition, [])
        if pumps and all(pump.finished for pump in pumps):
            self._surroundings.on_closed(partition, self._plan.index)

    async def horizon(self, partition: int) -> Reached:
        """What has been read of the partition's splits; nobody can say how far they go."""
        marks = {pump: pump.taken + pump.count for pump in self._pumps.get(partition, [])}
        return lambda: self._plan.index in self.paused or all(pump.taken >= mark for pump, mark in marks.items())

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """Tell the splits how far the store is."""
        for pump in self._pumps.get(partition, []):
            position = positions.get(pump.origin)
            if position is not None:
                pump.committed(position)

    async def close(self) -> None:
        """Stop all; idempotent."""
        for partition in list(self._pumps):
            await self.revoke(partition)
