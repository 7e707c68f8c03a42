"""Appends batches under a producer's identity: who leads a topic partition, sequences, acknowledgements.

aiokafka's producer is not used: it repeats behind our back for as long as a broker is away, and cannot be
thrown away while it does; its client, protocol and batch builder are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog
from aiokafka import errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from headrace.sources.kafka_connection import REQUEST_TIMEOUT_MS, KafkaConnection
from headrace.sources.kafka_extent import by_topic
from headrace.sources.kafka_metadata import Topic, describe_topics

logger = structlog.get_logger(__name__)

TopicPartition: TypeAlias = tuple[str, int]

_ALL_IN_SYNC: Final = -1
_ACK_WITHIN_MS: Final = 5_000
_NO_ID: Final = -1
_LOADING: Final = (errors.CoordinatorLoadInProgressError, errors.CoordinatorNotAvailableError)
_RETRY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said to one batch."""

    error: type[errors.KafkaError] | None
    """None: it is appended, now or at an earlier attempt."""
    code: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who appends: brokers drop repeats of the same producer, and refuse it once its epoch is no longer the last."""

    producer_id: int = _NO_ID
    epoch: int = _NO_ID
    transactional_id: str | None = None
    """What it appends belongs to this id's open transaction; None: to none."""


class Batch:
    """Records for one topic partition, in order.

    Args:
        builder: aiokafka's, empty.
    """

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self.count = 0
        self.append = builder.append
        """`append(index, time_ms, key, value, headers)`: None when it takes no more (the first always fits)."""

    def build(self, identity: Identity, sequence: int) -> bytes:
        """The batch's bytes; called once."""
        self._builder.set_producer_state(identity.producer_id, identity.epoch, sequence)
        return bytes(self._builder.build())


class Session:
    """A client of one cluster, and what is known of its topics.

    Args:
        connection: The cluster.

    Raises:
        ClusterUnavailable: An option of the cluster can't be used here.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self.connection = connection
        self.client = connection.client()
        self.topics: dict[str, Topic] = {}
        """Those that were looked up and exist."""

    async def open(self) -> None:
        """Connect.

        Raises:
            ClusterUnavailable: No client gets through to the cluster.
        """
        await self.connection.open(self.client)

    async def close(self) -> None:
        """Disconnect; idempotent."""
        await self.client.close()

    def count(self, topic: str) -> int:
        """How many partitions a topic has; 0: it is not known to exist."""
        known = self.topics.get(topic)
        return 0 if known is None else len(known.leaders)

    def leader(self, place: TopicPartition) -> int:
        """The node that leads a topic partition; -1: none, as far as known."""
        known = self.topics.get(place[0])
        return -1 if known is None else known.leaders.get(place[1], -1)

    async def look_up(self, names: Set[str]) -> None:
        """Ask for these topics (again)."""
        found = await describe_topics(self.client, names)
        for name in names:
            self.topics.pop(name, None)
        self.topics.update(found)


class Appender:
    """Appends batches over a session, counting each topic partition's sequence.

    After any error but a refused batch, throw it away: what it has sent may or may not have arrived.

    Args:
        session: Where to.
        batch_bytes: A batch takes no more once it holds so much.
    """

    def __init__(self, session: Session, batch_bytes: int) -> None:
        self.session = session
        self.identity = Identity()
        """Whose sequences are counted; to be set before anything is appended."""
        self._batch_bytes = batch_bytes
        self._sequences: dict[TopicPartition, int] = {}

    def new_batch(self) -> Batch:
        """An empty batch."""
        transactional = int(self.identity.transactional_id is not None)
        return Batch(DefaultRecordBatchBuilder(2, 0, transactional, _NO_ID, _NO_ID, 0, self._batch_bytes))

    async def append(self, batches: Mapping[TopicPartition, Batch]) -> dict[TopicPartition, Answer]:
        """Send all of them, one request to each leader, and wait until all replicas in sync have them.

        Raises:
            KafkaError: A broker does not answer; what it was sent may have been appended.
        """
        identity = self.identity
        by_leader: dict[int, list[tuple[str, tuple[int, bytes]]]] = defaultdict(list)
        for (topic, number), batch in batches.items():
            sequence = self._sequences.get((topic, number), 0) if identity.producer_id != _NO_ID else _NO_ID
            data = batch.build(identity, sequence)
            by_leader[self.session.leader((topic, number))].append((topic, (number, data)))
        answers = {
            (topic, number): Answer(errors.LeaderNotAvailableError) for topic, (number, _) in by_leader.pop(-1, [])
        }
        requests = [
            self.session.client.send(
                node, ProduceRequest(identity.transactional_id, _ALL_IN_SYNC, _ACK_WITHIN_MS, by_topic(listed))
            )
            for node, listed in by_leader.items()
        ]
        for response in await asyncio.gather(*requests):
            for topic, partitions in response.topics:
                for number, code, *rest in partitions:
                    answers[topic, number] = self._answered((topic, number), code, rest, batches[topic, number])
        return answers

    def _answered(self, place: TopicPartition, code: int, rest: list[Any], batch: Batch) -> Answer:
        kind = errors.for_code(code)
        if kind in (errors.NoError, errors.DuplicateSequenceNumber):
            self._sequences[place] = (self._sequences.get(place, 0) + batch.count) & 0x7FFFFFFF
            return Answer(None)
        message = rest[-1] if rest and isinstance(rest[-1], str) else ""
        return Answer(kind, code, message or kind.description or kind.__name__)


async def identify(session: Session) -> Identity:
    """A producer id where the broker gives any: it drops repeats within one session then.

    Raises:
        KafkaError: No broker answers.
    """
    no_transactions: Any = None
    while True:
        node = session.client.get_random_node()
        try:
            answer = await session.client.send(node, InitProducerIdRequest(no_transactions, REQUEST_TIMEOUT_MS))
        except errors.IncompatibleBrokerVersion:
            return Identity()
        kind = errors.for_code(answer.error_code)
        if kind is errors.NoError:
            return Identity(answer.producer_id, answer.producer_epoch)
        if kind not in _LOADING:
            logger.info("kafka_sink_not_idempotent", reason=kind.__name__)
            return Identity()
        await asyncio.sleep(_RETRY_SECONDS)
