"""Reads the channels, inboxes and internal streams of a worker's partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.sources.connection import Client, address_of, connect, store_errors
from headrace.sources.feeding import OnClosed, Surroundings
from headrace.sources.internal_tail import ControlTail, InternalTail
from headrace.sources.problems import Problems
from headrace.sources.reader import OnProblem, OnReady, Reached
from headrace.sources.requests import INBOX_KINDS
from headrace.sources.routing import is_cluster
from headrace.sources.stream_group import StreamGroup
from headrace.sources.tail import Tail
from headrace.workflows.keyspace import CONTROL, INBOX, INTERNAL, PartitionKeys
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

_ALL: Final = "streams"
_TAILS: Final[Mapping[str, type[Tail]]] = {INTERNAL: InternalTail, CONTROL: ControlTail}


def make_readers(sources: Sequence[SourcePlan], surroundings: Surroundings) -> list[StreamReader]:
    """One for all channels and requests of a worker; see `Feeder`."""
    return [
        StreamReader(
            surroundings.redis_url, surroundings.workflow, sources,
            on_ready=surroundings.on_ready, on_problem=surroundings.on_problem, on_closed=surroundings.on_closed,
        )
    ]  # fmt: skip


class StreamReader:
    """A `Reader` of channels, requests, and what other partitions send; see there for who calls what when.

    Args:
        url: Address of the store.
        workflow: Name of the workflow.
        sources: All sources of the plan: other partitions may send events of any of them.
        on_ready: Told which partition has records.
        on_problem: Told what is wrong with the connection.
        on_closed: Told which channel is closed and read to its end.
        buffer: Records to hold for each stream; at a full buffer the stream is not read.
        batch: Records of one stream in one read.
    """

    def __init__(
        self,
        url: str,
        workflow: str,
        sources: Sequence[SourcePlan],
        *,
        on_ready: OnReady,
        on_problem: OnProblem,
        on_closed: OnClosed | None = None,
        buffer: int = 4096,
        batch: int = 1024,
    ) -> None:
        self._url = url
        self._address = address_of(url)
        self._workflow = workflow
        self._channels = {f"channel:{plan.name}": plan.index for plan in sources if plan.source.kind == "channel"}
        self._requests = {plan.name: plan.index for plan in sources if plan.source.kind in INBOX_KINDS}
        self._sources = {plan.name: plan.index for plan in sources}
        self._on_ready = on_ready
        self._on_closed = on_closed
        self._buffer = buffer
        self._batch = batch
        self._tails: dict[int, list[Tail]] = {}
        self._by_key: dict[bytes, Tail] = {}
        self._client: Client | None = None
        self._problems = Problems(on_problem)
        self.paused: frozenset[int] = frozenset()
        self._groups: dict[str, StreamGroup] = {}

    async def open(self) -> None:
        """Start reading; while the server is away it tries again and says so."""
        if self._client is None:
            self._client = connect(self._url, connections=3, blocking=True)
            for partition, tails in self._tails.items():
                self._group_of(partition).set(partition, tails)

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """Read on from `positions`; what was buffered for the partition is dropped."""
        self._drop(partition)
        keys = PartitionKeys(self._workflow, partition)
        origins: list[tuple[str, Mapping[str, int] | int]] = [
            (INBOX, self._requests), (INTERNAL, self._sources), *self._channels.items(), (CONTROL, {})
        ]  # fmt: skip
        tails = [
            _TAILS.get(origin, Tail)(
                partition, origin, keys.stream(origin).encode(), sources, positions.get(origin, "0-0")
            )
            for origin, sources in origins
        ]
        self._tails[partition] = tails
        self._by_key.update({tail.key: tail for tail in tails})
        if self._client is not None:
            self._group_of(partition).set(partition, tails)

    async def revoke(self, partition: int) -> None:
        """Stop reading for `partition`, and drop what is buffered."""
        self._drop(partition)
        name = self._name_of(partition)
        if name != _ALL and name in self._groups:
            await self._groups.pop(name).close()
        elif name in self._groups:
            self._groups[name].set(partition, [])

    def _name_of(self, partition: int) -> str:
        """Who reads it: in a cluster one command can't wait for streams of several partitions."""
        return f"partition {partition}" if self._client is not None and is_cluster(self._client) else _ALL

    def _group_of(self, partition: int) -> StreamGroup:
        assert self._client is not None
        name = self._name_of(partition)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = StreamGroup(
                name, self._client, self._address, self._problems, self._take_in, buffer=self._buffer, batch=self._batch
            )
        return group

    def _drop(self, partition: int) -> None:
        for tail in self._tails.pop(partition, []):
            self._by_key.pop(tail.key, None)

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived; never waits.

        Requests first, then events of other partitions, then one channel after the other. Each stream may take half
        of what the one before it has left, so that none of them starves.
        """
        pulled: list[Records] = []
        waiting = [tail for tail in self._tails.get(partition, []) if len(tail) and not self._is_paused(tail)]
        for tail in waiting:
            room = limit - sum(map(len, pulled))
            pulled.extend(tail.take(room if tail is waiting[-1] else (room + 1) // 2))
            self._tell_if_closed(tail)
        return pulled

    def _is_paused(self, tail: Tail) -> bool:
        """Requests of all sources lie in one stream, in their order: while one of them is paused, all wait."""
        if tail.origin == CONTROL:
            return True  # it is no event of a source: see `pull_control`
        if tail.origin == INTERNAL:
            return False  # events that were taken already
        return tail.source in self.paused or not self.paused.isdisjoint(tail.sources.values())

    async def horizon(self, partition: int) -> Reached:
        """See `Reader`; not asked while the server is away, as nothing is committed then."""
        tails = [tail for tail in self._tails.get(partition, []) if not self._is_paused(tail)]
        assert self._client is not None
        client: Any = self._client
        with store_errors(self._address):
            ends = [await client.xrevrange(tail.key, count=1) for tail in tails]
        return lambda: all(
            self._is_paused(tail) or not end or tail.passed(end[0][0]) for tail, end in zip(tails, ends, strict=True)
        )

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """See `Reader`: the commit itself has trimmed the streams."""

    def pull_sent(self, partition: int, limit: int) -> list[Records]:
        """What other partitions have sent, and nothing else; never waits."""
        return self._pull_from(INTERNAL, partition, limit)

    def pull_control(self, partition: int) -> list[Records]:
        """What is asked of runs from outside; never waits."""
        return self._pull_from(CONTROL, partition, self._batch)

    def pull_requests(self, partition: int, limit: int) -> list[Records]:
        """What callers wait for, or might, and nothing else; never waits."""
        return self._pull_from(INBOX, partition, limit) if self.has_requests(partition) else []

    def has_requests(self, partition: int) -> bool:
        """Whether there is something of that to be pulled."""
        return any(
            tail.origin == INBOX and len(tail) > 0 and not self._is_paused(tail)
            for tail in self._tails.get(partition, ())[:1]
        )

    def _pull_from(self, origin: str, partition: int, limit: int) -> list[Records]:
        tails = (tail for tail in self._tails.get(partition, []) if tail.origin == origin and len(tail))
        return [records for tail in tails for records in tail.take(limit)]

    def _tell_if_closed(self, tail: Tail) -> None:
        if tail.finished and not tail.told and tail.source is not None:
            tail.told = True
            if self._on_closed is not None:
                self._on_closed(tail.partition, tail.source)

    async def close(self) -> None:
        """Stop reading and disconnect; idempotent."""
        groups, self._groups = self._groups, {}
        await asyncio.gather(*(group.close() for group in groups.values()))
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _take_in(self, answer: list[Any]) -> None:
        ready: dict[int, None] = {}
        for key, entries in answer:
            tail = self._by_key.get(key)
            if tail is None:
                continue
            tail.put(entries)
            self._tell_if_closed(tail)
            if len(tail):
                ready[tail.partition] = None
        for partition in ready:
            self._on_ready(partition)
