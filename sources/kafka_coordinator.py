"""One transactional producer: its coordinator, its epoch, and the requests that begin and end a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka import errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest

from headrace.sources.kafka_extent import by_topic
from headrace.sources.kafka_produce import Appender, Identity, Session, TopicPartition
from headrace.workflows.effects import Effect, effect

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""After so long the broker aborts a transaction whose producer is gone, so readers wait no longer than that."""

_SOON: Final = 0.002
_TRIES: Final = 3
_LATER: Final = 0.1
_FENCED_CODE: Final = 90  # PRODUCER_FENCED, which aiokafka has no class for
_ELSEWHERE: Final = (errors.CoordinatorNotAvailableError, errors.NotCoordinatorError)
_BUSY: Final = (errors.ConcurrentTransactions, errors.CoordinatorLoadInProgressError)
"""Asked too early: the last transaction is still being ended, or the coordinator is reading its log."""
_SHUT_OUT: Final = (errors.InvalidProducerEpoch, errors.ProducerFenced)


class Fenced(errors.KafkaError):  # type: ignore[misc]
    """Somebody has begun with the same transactional id after us: what is open of ours was aborted."""


class TransactionalProducer:
    """A transactional id in use. After any error throw it away: a new one's `open` ends what this one left open.

    Args:
        session: Open; others may use it, too.
        transactional_id: Of which only the last one opened can commit.
        batch_bytes: A batch takes no more once it holds so much.
    """

    def __init__(self, session: Session, transactional_id: str, batch_bytes: int) -> None:
        self.session = session
        self.appender = Appender(session, batch_bytes)
        self._id = transactional_id
        self._coordinator: int | None = None

    async def open(self) -> None:
        """Shut out whoever used the id before.

        A transaction that it left open is aborted, one that it was committing is committed; either is over then.

        Raises:
            KafkaError: No broker answers, or the id may not be used.
        """
        request = InitProducerIdRequest(self._id, TRANSACTION_TIMEOUT_MS)
        with effect(Effect.TRANSACTION_INIT):
            answer = await self._ask(request, lambda answer: answer.error_code)
        self.appender.identity = Identity(answer.producer_id, answer.producer_epoch, self._id)

    async def begin(self, places: Iterable[TopicPartition]) -> None:
        """Begin a transaction over these topic partitions.

        Raises:
            Fenced: The id was opened elsewhere.
            KafkaError: No broker answers, or one of the topics is gone.
        """
        identity = self.appender.identity
        request = AddPartitionsToTxnRequest(self._id, identity.producer_id, identity.epoch, by_topic(places))
        with effect(Effect.TRANSACTION_BEGIN):
            await self._ask(request, _worst)

    async def end(self, *, commit: bool) -> None:
        """Commit or abort it. After a commit all of it is there for read-committed readers, in a moment.

        Raises:
            Fenced: The id was opened elsewhere, or the transaction took too long; it was aborted, unless an earlier
                attempt of ours has committed it.
            KafkaError: No broker answers; whether it was committed shows once the id is opened again.
        """
        identity = self.appender.identity
        request = EndTxnRequest(self._id, identity.producer_id, identity.epoch, commit)
        with effect(Effect.TRANSACTION_COMMIT if commit else Effect.TRANSACTION_ABORT):
            await self._ask(request, lambda answer: answer.error_code)

    async def _ask(self, request: Any, code_of: Callable[[Any], int]) -> Any:
        """The coordinator's answer, asked again while it is busy or elsewhere; the caller limits the time."""
        wait = _SOON
        while True:
            if self._coordinator is None:
                self._coordinator = await self._find()
            if self._coordinator is not None:
                answer = await self.session.client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
                code = code_of(answer)
                kind = errors.for_code(code)
                if kind is errors.NoError:
                    return answer
                if kind in _SHUT_OUT or code == _FENCED_CODE:
                    raise Fenced(f"{self._id} was taken over, or its transaction took too long")
                if kind in _ELSEWHERE:
                    self._coordinator = None
                    wait = _LATER
                elif kind not in _BUSY:
                    raise kind(f"{self._id}: {kind.description or kind.__name__}")
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LATER)

    async def _find(self) -> int | None:
        try:
            return int(await self.session.client.coordinator_lookup(CoordinationType.TRANSACTION, self._id))
        except (*_ELSEWHERE, *_BUSY):
            return None


def _worst(answer: Any) -> int:
    """The code of an answer by topic partition; those not attempted say nothing of why."""
    codes: list[int] = [code for _, rows in answer.errors for _, code in rows if code]
    return next((code for code in codes if errors.for_code(code) is not errors.OperationNotAttempted), 0)


async def lack_of_transactions(session: Session) -> str | None:
    """Why the broker can't have any (it gives no producer ids: too old, or of another make); None: it can.

    Raises:
        KafkaError: It can't be said now.
    """
    no_transactions: Any = None
    request = InitProducerIdRequest(no_transactions, TRANSACTION_TIMEOUT_MS)
    tries = _TRIES
    while tries:
        try:
            answer = await session.client.send(session.client.get_random_node(), request)
        except errors.IncompatibleBrokerVersion as error:
            return f"it is too old: {error}"
        kind = errors.for_code(answer.error_code)
        if kind is errors.NoError:
            return None
        if kind is errors.UnsupportedVersionError:
            return "it is too old: UnsupportedVersionError"
        if answer.error_code == errors.UnknownError.errno:
            tries -= 1  # Tansu always says so; others might, once
        elif kind not in (*_BUSY, *_ELSEWHERE):
            raise kind(kind.description or kind.__name__)
        await asyncio.sleep(_LATER)
    return "it gives no producer ids"
