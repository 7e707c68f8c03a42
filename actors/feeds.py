"""All readers of a worker as one: requests, channels and schedules first, but never so that a log starves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from headrace.actors.spec import Deployment
from headrace.sources.feeding import Surroundings, readers_of
from headrace.sources.kafka_connection import by_cluster
from headrace.sources.kafka_group import group_of
from headrace.sources.kafka_reader import KafkaReader
from headrace.sources.reader import Reached, Reader
from headrace.sources.streams import StreamReader
from headrace.sources.streams import make_readers as streams_of
from headrace.workflows.plan import Plan, SourcePlan
from headrace.workflows.records import Records

STREAMS: Final = "headrace.sources.streams:make_readers"
LOG_SHARE = 0.5
"""Part of an epoch that is kept for logs when streams could fill all of it."""


class Feeds:
    """The readers of one worker."""

    def __init__(
        self, first: Sequence[Reader], rest: Sequence[Reader], *, streams: Sequence[StreamReader] = ()
    ) -> None:
        self._streams = list(streams)
        self._first = [*streams, *first]
        self._rest = list(rest)
        self._turn = 0
        self.paused: frozenset[int] = frozenset()
        """Sources that nothing is pulled from."""

    @property
    def readers(self) -> list[Reader]:
        """All of them."""
        return [*self._first, *self._rest]

    def pause(self, sources: frozenset[int]) -> None:
        """Pull nothing more from these sources (by index); from all others again."""
        self.paused = sources
        for reader in self.readers:
            reader.paused = sources

    async def open(self) -> None:
        """Connect all."""
        for reader in self.readers:
            await reader.open()

    async def assign(self, partition: int, positions: dict[str, str]) -> None:
        """See `Reader.assign`."""
        await asyncio.gather(*(reader.assign(partition, positions) for reader in self.readers))

    async def revoke(self, partition: int) -> None:
        """See `Reader.revoke`."""
        await asyncio.gather(*(reader.revoke(partition) for reader in self.readers))

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What can't wait first, then logs, each of them first in turn; see `Reader.pull`."""
        batches: list[Records] = []
        share = int(limit * (1 - LOG_SHARE)) if self._rest else limit
        for reader in self._first:
            batches += reader.pull(partition, max(1, share - sum(map(len, batches))))
        room = limit - sum(map(len, batches))
        self._turn += 1
        turn = self._turn % len(self._rest) if self._rest else 0
        for reader in self._rest[turn:] + self._rest[:turn]:
            if room > 0:
                pulled = reader.pull(partition, room)
                room -= sum(map(len, pulled))
                batches += pulled
        return batches

    def has_requests(self, partition: int) -> bool:
        """Whether there is something to be pulled that a caller may wait for."""
        return any(reader.has_requests(partition) for reader in self._streams)

    def pull_requests(self, partition: int, limit: int) -> list[Records]:
        """That, and nothing else; never waits."""
        return [records for reader in self._streams for records in reader.pull_requests(partition, limit)]

    def pull_sent(self, partition: int, limit: int) -> list[Records]:
        """What other partitions have sent: taken while no source is read, too, else they might block each other."""
        return [records for reader in self._streams for records in reader.pull_sent(partition, limit)]

    async def horizon(self, partition: int) -> Reached:
        """How far all sources of a partition go now; see `Reader.horizon`."""
        parts = await asyncio.gather(*(reader.horizon(partition) for reader in self.readers))
        return lambda: all(reached() for reached in parts)

    def pull_control(self, partition: int) -> list[Records]:
        """What is asked of runs from outside: taken whatever else is not."""
        return [records for reader in self._streams for records in reader.pull_control(partition)]

    def committed(self, partition: int, positions: dict[str, str]) -> None:
        """See `Reader.committed`."""
        for reader in self.readers:
            reader.committed(partition, positions)

    def lags(self) -> dict[tuple[str, str], int]:
        """(source, origin) -> records that the log has and that were not pulled, as far as known."""
        return {
            (origin.rpartition("/")[0], origin): max(0, end - position)
            for reader in self._rest
            if isinstance(reader, KafkaReader)
            for origin, (position, end) in reader.lag().items()
        }

    def lag(self) -> int:
        """Records that all logs have and that were not pulled, as far as known."""
        return sum(self.lags().values())

    async def close(self) -> None:
        """Disconnect all."""
        await asyncio.gather(*(reader.close() for reader in self.readers))


def make_feeds(plan: Plan, deployment: Deployment, surroundings: Surroundings) -> Feeds:
    """The readers that the sources of a plan need: each source says what makes them.

    The reader of streams is always there, and knows all sources: other partitions may send events of any of them.
    """
    streams = streams_of(plan.sources, surroundings)
    kafka = [source for source in plan.sources if source.source.kind == "kafka"]
    others = [source for source in plan.sources if source.source.kind != "kafka" and source.source.feeder != STREAMS]
    first = readers_of([source for source in others if source.source.urgent], surroundings)
    rest = readers_of([source for source in others if not source.source.urgent], surroundings)
    return Feeds(first, [*_kafka_readers(kafka, deployment, surroundings), *rest], streams=streams)


def _kafka_readers(
    sources: Sequence[SourcePlan], deployment: Deployment, surroundings: Surroundings
) -> list[KafkaReader]:
    return [
        KafkaReader(
            plans, connection=connection, partitions=deployment.partitions, on_ready=surroundings.on_ready,
            on_problem=surroundings.on_problem, group=group_of(deployment.workflow, connection),
            start_over=deployment.start_over,
        )
        for connection, plans in by_cluster(sources, lambda plan: plan.source, deployment)
    ]  # fmt: skip
