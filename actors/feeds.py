"""All readers of a worker as one: requests and channels first, but never so that a log starves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.actors.spec import Deployment
from headrace.sources.kafka_reader import KafkaReader
from headrace.sources.reader import OnProblem, OnReady, Reader
from headrace.sources.streams import OnClosed, StreamReader
from headrace.workflows.plan import Plan, SourcePlan
from headrace.workflows.records import Records

KAFKA_SHARE = 0.5
"""Part of an epoch that is kept for logs when streams could fill all of it."""


class Feeds:
    """The readers of one worker."""

    def __init__(self, first: Sequence[Reader], rest: Sequence[Reader]) -> None:
        self._first = list(first)
        self._rest = list(rest)

    @property
    def readers(self) -> list[Reader]:
        """All of them."""
        return [*self._first, *self._rest]

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
        """Streams first, then logs; see `Reader.pull`."""
        batches: list[Records] = []
        room = limit
        for reader in self._first:
            share = max(1, int(room * (1 - KAFKA_SHARE))) if self._rest else room
            batches += reader.pull(partition, share)
        room -= sum(map(len, batches))
        for reader in self._rest:
            if room > 0:
                pulled = reader.pull(partition, room)
                room -= sum(map(len, pulled))
                batches += pulled
        return batches

    def lag(self) -> int:
        """Records that the logs have and that were not pulled, as far as known."""
        return sum(
            max(0, end - position)
            for reader in self._rest
            if isinstance(reader, KafkaReader)
            for position, end in reader.lag().values()
        )

    async def close(self) -> None:
        """Disconnect all."""
        await asyncio.gather(*(reader.close() for reader in self.readers))


def make_feeds(
    plan: Plan, deployment: Deployment, on_ready: OnReady, on_problem: OnProblem, on_closed: OnClosed
) -> Feeds:
    """The readers that the sources of a plan need."""
    streams = [source for source in plan.sources if source.source.kind in ("channel", "requests")]
    first: list[Reader] = []
    if streams:
        url = deployment.redis_url
        first.append(
            StreamReader(url, plan.name, streams, on_ready=on_ready, on_problem=on_problem, on_closed=on_closed)
        )
    clusters: dict[str, list[SourcePlan]] = {}
    for source in plan.sources:
        if source.source.kind == "kafka":
            clusters.setdefault(bootstrap_of(source.source, deployment), []).append(source)
    rest = [
        KafkaReader(
            sources, bootstrap=bootstrap, partitions=deployment.partitions, on_ready=on_ready, on_problem=on_problem,
            options=client_options(deployment),
        )
        for bootstrap, sources in clusters.items()
    ]  # fmt: skip
    return Feeds(first, rest)


def bootstrap_of(port: Any, deployment: Deployment) -> str:
    """Brokers of a Kafka source or sink: its own, else the deployment's."""
    own: str | None = port.bootstrap
    return own or deployment.kafka.get("bootstrap_servers", "localhost:9092")


def client_options(deployment: Deployment) -> dict[str, Any]:
    """What else the Kafka clients are to be given."""
    return {name: value for name, value in deployment.kafka.items() if name != "bootstrap_servers"}
