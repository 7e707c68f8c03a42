"""How far a partition's outputs have arrived: a record beside them, in the same transaction, in a topic of its own.

A marker's key is the workflow's incarnation and the partition, its value the sequence in the outbox. The topic is
compacted; only the last marker of a key counts, and it lies near the end of its topic partition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiokafka import errors
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from headrace.sources.kafka_batches import Columns, FetchedBatches
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_extent import READ_COMMITTED, READ_UNCOMMITTED, aborted_of, by_topic
from headrace.sources.kafka_produce import Session, TopicPartition
from headrace.workflows.commit import Output
from headrace.workflows.effects import Effect, effect

logger = structlog.get_logger(__name__)

SMALL: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(1 << 20),
    "delete.retention.ms": "60000",
}
"""Keeps a topic partition at a few megabytes: only closed segments are compacted, and what ends a transaction
(78 bytes each) stays for the second time after its records are gone, by default for a day."""
_PLAIN: Final[Mapping[str, str]] = {"cleanup.policy": "compact"}
"""For brokers that refuse the rest."""
_REFUSED: Final = (errors.InvalidConfigurationError, errors.PolicyViolationError)
_MOVED: Final = (
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.UnknownTopicOrPartitionError,
    errors.ReplicaNotAvailableError,
)
"""The leader is another one now, or not ready yet."""
_MOST_REPLICAS: Final = 3
_FIRST_STEP: Final = 16
"""Offsets from the end at which the first look begins: one marker and one control record a transaction."""
_PIECE_BYTES: Final = 256 << 10
_FETCH_WAIT_MS: Final = 100
_EARLIEST: Final = -2
_LATEST: Final = -1
_SOON: Final = 0.02


def marker_topic(workflow: str) -> str:
    """Where the markers of a workflow lie, in every cluster that it sends to."""
    return f"headrace.{workflow}.markers"


class Markers:
    """The markers of one incarnation of a workflow, in one cluster.

    Args:
        workflow: Its name.
        incarnation: Random id of its present life.
        partitions: How many it has; the topic gets as many.
    """

    def __init__(self, workflow: str, incarnation: str, partitions: int) -> None:
        self.topic = marker_topic(workflow)
        self._incarnation = incarnation
        self._partitions = partitions

    def place(self, partition: int) -> TopicPartition:
        """Where a partition's markers lie."""
        return self.topic, partition

    def marker(self, partition: int, through: int) -> Output:
        """All outputs up to the sequence `through` are in the transaction of this record, or in earlier ones."""
        return Output(-1, "", self._key(partition), time.time_ns() // 1_000_000, b"%d" % through)

    def _key(self, partition: int) -> str:
        return f"{self._incarnation}/{partition}"

    async def ensure(self, session: Session) -> None:
        """Make the topic if it is missing, and wait until it has a partition for each of the workflow's.

        Raises:
            ClusterUnavailable: No client gets through to the cluster.
            KafkaError: No broker answers, or the topic may not be made.
        """
        if not session.count(self.topic):
            await session.look_up({self.topic})
        while (count := session.count(self.topic)) < self._partitions:
            brokers = len(session.client.cluster.brokers())
            await self._make(session.connection, count, min(_MOST_REPLICAS, max(1, brokers)))
            await asyncio.sleep(_SOON)
            await session.look_up({self.topic})

    async def _make(self, connection: KafkaConnection, count: int, replicas: int) -> None:
        admin = connection.admin()
        try:
            await connection.open_admin(admin)
            if count:  # of an earlier life, with fewer partitions
                with effect(Effect.TOPIC):
                    await admin.create_partitions({self.topic: NewPartitions(self._partitions)})
                return
            for settings in (SMALL, _PLAIN):
                kind: Any = await self._create(
                    admin, NewTopic(self.topic, self._partitions, replicas, None, dict(settings))
                )
                if kind not in _REFUSED:
                    break
                logger.warning("marker_topic_settings_refused", topic=self.topic, settings=dict(settings))
            if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
                raise kind(f"the topic {self.topic} can't be made: {kind.description or kind.__name__}")
        finally:
            await admin.close()

    async def _create(self, admin: Any, topic: NewTopic) -> type[errors.KafkaError]:
        with effect(Effect.TOPIC):
            answer = await admin.create_topics([topic])
        ((_, code, *_),) = answer.topic_errors
        kind: type[errors.KafkaError] = errors.for_code(code)
        return kind

    async def read(self, session: Session, partition: int) -> int:
        """The last committed marker of a partition; 0: there is none.

        To be asked once the partition's transactional id was opened, so that no transaction of its is under way.

        Raises:
            KafkaError: It can't be said now.
        """
        while True:
            try:
                return await self._read(session, self.place(partition), self._key(partition).encode())
            except _MOVED:
                await asyncio.sleep(_SOON)
                await session.look_up({self.topic})
                if not session.count(self.topic):
                    raise

    async def _read(self, session: Session, place: TopicPartition, key: bytes) -> int:
        first = await _offset(session, place, _EARLIEST)
        end = stable = await _settled_end(session, place)
        step = _FIRST_STEP
        while True:
            start = max(first, stable - step)
            found = await self._last(session, place, key, start, end)
            if found is not None or start == first:
                return found or 0
            end, step = start, step * 2

    async def _last(self, session: Session, place: TopicPartition, key: bytes, start: int, end: int) -> int | None:
        """The last marker with this key from `start` to before `end`."""
        found: int | None = None
        offset = start
        while offset < end:
            piece = await _fetch(session, place, offset)
            if piece is None:
                break
            columns = Columns()
            piece.take(columns, piece.size)
            for number, record_key, value in zip(columns.offsets, columns.keys, columns.values, strict=True):
                if record_key == key and value and number < end:
                    found = int(value)
            offset = piece.end
        return found


async def _settled_end(session: Session, place: TopicPartition) -> int:
    """The end of the log for readers of committed records, once they can see all that was there at the first look.

    A transaction of another life of the workflow may be open here, and ours be committed behind it.
    """
    high = await _offset(session, place, _LATEST, isolation=READ_UNCOMMITTED)
    while True:
        stable = await _offset(session, place, _LATEST)
        if stable >= high:
            return stable
        await asyncio.sleep(_SOON)


async def _offset(session: Session, place: TopicPartition, which: int, *, isolation: int = READ_COMMITTED) -> int:
    """The first offset, or the one behind the last.

    Asked for, not taken from a fetch: a broker that has just become the leader may have an end for readers that is
    older than what was acknowledged; only this request is refused as long (KIP-207).
    """
    request = OffsetRequest(-1, isolation, by_topic([(place[0], (place[1], which))]))
    answer = await session.client.send(session.leader(place), request)
    ((_, ((_, code, *rest),)),) = answer.topics
    _check(code, place)
    return int(rest[-1])


async def _fetch(session: Session, place: TopicPartition, offset: int) -> FetchedBatches | None:
    """What lies there and behind it; None: nothing (compaction leaves holes)."""
    wanted = by_topic([(place[0], (place[1], offset, _PIECE_BYTES))])
    request = FetchRequest(_FETCH_WAIT_MS, 1, _PIECE_BYTES, READ_COMMITTED, wanted)
    while True:
        answer = await session.client.send(session.leader(place), request)
        ((_, ((_, code, _high, *rest),)),) = answer.topics
        _check(code, place)
        if rest[-1]:
            piece = FetchedBatches(rest[-1], offset, aborted_of(rest))
            return piece if piece.end > offset else None
        if not answer.throttle_time_ms:
            return None
        await asyncio.sleep(answer.throttle_time_ms / 1000)  # the answer is empty because of a quota


def _check(code: int, place: TopicPartition) -> None:
    kind = errors.for_code(code)
    if kind is not errors.NoError:
        raise kind(f"{place[0]}/{place[1]} can't be read: {kind.description or kind.__name__}")
