"""Sends outputs to Kafka exactly once: those of a partition in transactions, each with a marker of how far they go.

After a loss the marker says what has arrived: first the transactional id is opened anew, which ends whatever its last
user left open, *then* the marker is read. See `docs/decisions/exactly-once-sinks.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
from aiokafka import errors

from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_coordinator import TransactionalProducer, lack_of_transactions
from headrace.sources.kafka_lanes import Lane, Loading, batch_bytes
from headrace.sources.kafka_markers import Markers
from headrace.sources.kafka_produce import Session
from headrace.sources.kafka_sink import FAILURES, KafkaOutput, SinkUnavailable
from headrace.sources.outlet import Portion, Refused
from headrace.workflows.effects import Effect, effect
from headrace.workflows.plan import SinkPlan

logger = structlog.get_logger(__name__)

_WITHIN: Final = 10.0
"""Seconds for a transaction, as long as the broker gives it."""
_RETRY_SECONDS: Final = 1.0
_LIMIT: Final = (
    "durability is fast: if the store loses its last second, outputs of it may be repeated, missing or others"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose outputs they are."""

    workflow: str
    incarnation: str
    """Random id of the workflow's present life."""
    partitions: int
    """How many it has."""
    durable: bool = True
    """Its outputs leave only once the store can't lose them."""

    def transactional_id(self, partition: int) -> str:
        """Names a partition's transactions in a cluster: the last process that opens it shuts out all others."""
        return f"headrace-{self.workflow}-{self.incarnation}-{partition}"


@dataclass(slots=True)
class _Stay:
    """A partition, as long as this worker has it."""

    producer: TransactionalProducer | None = None
    committed: int = 0
    """Sequence up to which outputs are known to have arrived."""
    tried: int = 0
    """Sequence up to which they may have."""


class KafkaTransactions:
    """The `Outlet` of one worker to the Kafka sinks of one cluster; each output once for read-committed readers.

    Where the broker has no transactions each arrives at least once, as with `KafkaOutput`.

    Args:
        sinks: Plans of sinks whose `sink` is a `WritesTopic`.
        origin: Whose outputs they are.
        connection: The cluster.
    """

    def __init__(self, sinks: Sequence[SinkPlan], origin: Origin, *, connection: KafkaConnection) -> None:
        self.sinks = [plan.name for plan in sinks]
        """Names of those that it serves."""
        self._origin = origin
        self._connection = connection
        self._loading = Loading(sinks)
        self._batch_bytes = batch_bytes(sinks)
        self._markers = Markers(origin.workflow, origin.incarnation, origin.partitions)
        self._session: Session | None = None
        self._connecting = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._stays: dict[int, _Stay] = {}
        self._plain = KafkaOutput(sinks, connection=connection)
        self._sending_plain = asyncio.Lock()
        self.exactly_once: bool | None = None
        """Whether the broker has transactions; None: it was not reached yet."""
        self.transactions = 0
        """Committed so far."""

    @property
    def name(self) -> str:
        """See `Outlet`."""
        return f"Kafka at {self._connection.address}"

    @property
    def transactional(self) -> bool:
        """See `Outlet`."""
        return True

    async def open(self) -> None:
        """See `Outlet`; finds out whether the broker has transactions, for the log, and makes the markers' topic."""
        self._opening = asyncio.create_task(self._open(), name=self.name)

    async def _open(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_WITHIN):
                    session = await self._connected()
                    if self.exactly_once:
                        await self._have_markers(session)
                return
            except FAILURES as error:
                logger.info("kafka_sink_not_reached", cluster=self._connection.address, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def begin(self, partition: int, last: int) -> int:
        """See `Outlet`. A marker beyond `last` means that the store has lost its tail: the marker is set back.

        Raises:
            SinkUnavailable: Ask again later.
        """
        stay = self._stays.setdefault(partition, _Stay())
        await self._discard(stay)
        try:
            async with asyncio.timeout(_WITHIN):
                session = await self._connected()
                return await self._begin(session, stay, partition, last) if self.exactly_once else 0
        except FAILURES as error:
            self._session = None  # those who use the old one may go on with it
            await self._fail(stay, partition, error)
        except asyncio.CancelledError:
            await self._discard(stay)
            raise

    async def _begin(self, session: Session, stay: _Stay, partition: int, last: int) -> int:
        producer = TransactionalProducer(session, self._origin.transactional_id(partition), self._batch_bytes)
        stay.producer = producer
        await producer.open()
        await self._have_markers(session)
        marker = await self._markers.read(session, partition)
        known = max(last, stay.tried)
        if marker > known:
            logger.warning("outputs_may_repeat", partition=partition, marker=marker, outbox=known)
            await self._transact(stay, producer, partition, Portion((), known))
        stay.committed = max(stay.committed, min(marker, known))
        return stay.committed

    async def _have_markers(self, session: Session) -> None:
        async with self._connecting:
            await self._markers.ensure(session)

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        """See `Outlet`: a transaction for each portion, or none if any output of it is refused.

        Raises:
            SinkUnavailable: Begin again, later.
        """
        refused: list[Refused] = []
        for partition, portion in portions.items():
            refused += await self._send(partition, portion)
        return refused

    async def _send(self, partition: int, portion: Portion) -> Sequence[Refused]:
        if self.exactly_once is False:
            async with self._sending_plain:
                return await self._plain.send({partition: portion})
        stay = self._stays.get(partition)
        if stay is None or stay.producer is None:
            raise SinkUnavailable(self._connection.address, f"partition {partition} has not begun")
        try:
            async with asyncio.timeout(_WITHIN):
                return await self._transact(stay, stay.producer, partition, portion)
        except FAILURES as error:
            # Whether it was committed shows when the partition begins again.
            await self._fail(stay, partition, error)
        except asyncio.CancelledError:
            await self._discard(stay)
            raise

    async def _transact(
        self, stay: _Stay, producer: TransactionalProducer, partition: int, portion: Portion
    ) -> Sequence[Refused]:
        session, topic = producer.session, self._markers.topic
        shipment = await self._loading.load(session, portion.outputs)
        if shipment.refused:
            return shipment.refused
        if not session.count(topic):
            await session.look_up({topic})
        marker = self._markers.marker(partition, portion.through)
        shipment.add(self._markers.place(partition), Lane([marker]), session.count(topic))
        await producer.begin(shipment.waiting)
        with effect(Effect.RELAY_SEND):
            gone = await shipment.send(producer.appender)
        if gone:
            raise errors.UnknownTopicOrPartitionError(f"{', '.join(sorted(gone))} was deleted or has changed")
        if shipment.refused:
            await producer.end(commit=False)
            return shipment.refused
        stay.tried = max(stay.tried, portion.through)
        await producer.end(commit=True)
        stay.committed = portion.through
        self.transactions += 1
        return ()

    async def drop(self, partition: int) -> None:
        """See `Outlet`. A transaction that is open is ended by the next owner, or by the broker after 10 s."""
        stay = self._stays.pop(partition, None)
        if stay is not None:
            await self._discard(stay)

    async def close(self) -> None:
        """Disconnect; idempotent."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for partition in list(self._stays):
            await self.drop(partition)
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._plain.close()

    async def _connected(self) -> Session:
        async with self._connecting:
            if self._session is None:
                session = Session(self._connection)
                try:
                    await session.open()
                    self._learn(await lack_of_transactions(session))
                except BaseException:
                    await session.close()
                    raise
                self._session = session
            return self._session

    def _learn(self, lack: str | None) -> None:
        known, self.exactly_once = self.exactly_once, lack is None
        if known is self.exactly_once:
            return
        if lack is None:
            limit = None if self._origin.durable else _LIMIT
            logger.info("sinks_exactly_once", cluster=self._connection.address, sinks=self.sinks, limit=limit)
        else:
            logger.warning("sinks_at_least_once", cluster=self._connection.address, sinks=self.sinks, reason=lack)

    async def _fail(self, stay: _Stay, partition: int, error: BaseException) -> NoReturn:
        cause = str(error) or type(error).__name__
        logger.warning("kafka_sink_unavailable", cluster=self._connection.address, partition=partition, reason=cause)
        await self._discard(stay)
        raise SinkUnavailable(self._connection.address, cause) from error

    async def _discard(self, stay: _Stay) -> None:
        """Use this producer no more; its session goes with the last one that used it, unless it is the present one."""
        producer, stay.producer = stay.producer, None
        if producer is None:
            return
        session = producer.session
        session.topics.clear()  # the reason may be that one of them has changed
        others = (stay.producer for stay in self._stays.values())
        if session is not self._session and not any(other and other.session is session for other in others):
            await session.close()
