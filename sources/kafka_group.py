"""Committed positions told to a consumer group now and then, for lag tools only; nothing here is ever read back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetCommitRequest

from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_extent import by_topic
from headrace.sources.kafka_log import offset_of

logger = structlog.get_logger(__name__)

_EVERY: Final = 5.0
"""Seconds between two commits, if there is anything new."""
_NOT_A_MEMBER: Final = (-1, "", -1)
"""Generation, member id, retention by the broker: a group without members, as with manual assignment."""


class GroupPositions:
    """Commits to one group, in the background; failures are logged and harmless.

    Args:
        group: Its name.
        connection: Its cluster.
    """

    def __init__(self, group: str, connection: KafkaConnection) -> None:
        self._group = group
        self._connection = connection
        self._new: dict[tuple[str, int], int] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; connecting waits for the first positions."""
        self._task = asyncio.create_task(self._run(), name="kafka-group-positions")

    def note(self, positions: Mapping[tuple[str, int], str]) -> None:
        """These are committed in the store now: (topic, topic partition) -> position."""
        self._new.update({place: offset_of(position) for place, position in positions.items()})
        self._news.set()

    async def close(self) -> None:
        """Stop; idempotent. What was not told yet stays untold."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            try:
                client = await self._connection.connect()
                try:
                    while True:
                        await self._commit(client)
                        await asyncio.sleep(_EVERY)
                finally:
                    await client.close()
            except (errors.KafkaError, OSError, TimeoutError, ClusterUnavailable) as error:
                logger.info("kafka_group_not_told", group=self._group, reason=str(error) or repr(error))
                await asyncio.sleep(_EVERY)

    async def _commit(self, client: AIOKafkaClient) -> None:
        told, self._new = self._new, {}
        if not told:
            return
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
            topics = by_topic((topic, (number, offset, "")) for (topic, number), offset in told.items())
            request = OffsetCommitRequest(self._group, *_NOT_A_MEMBER, topics)
            answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        except (errors.KafkaError, OSError, TimeoutError):
            self._new = told | self._new
            raise
        for topic, partitions in answer.topics:
            for number, code in partitions:
                if code:
                    # Its coordinator is loading or moving, or it may not be told: again, unless there is news.
                    self._new.setdefault((topic, number), told[topic, number])
                    reason = errors.for_code(code).__name__
                    logger.info("kafka_group_not_told", group=self._group, topic=topic, partition=number, reason=reason)
