"""Committed positions told to a consumer group now and then: for lag tools, and to notice a store that was emptied.

Reading never begins by a group: positions come from the store, with the states.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, TypeAlias

import structlog
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import ListGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_extent import by_topic
from headrace.sources.kafka_log import offset_of
from headrace.workflows.effects import Effect, effect

logger = structlog.get_logger(__name__)

Place: TypeAlias = tuple[str, int]
"""Topic, topic partition."""

_EVERY: Final = 5.0
"""Seconds between two commits, if there is anything new. What is told is at least so old: a store that loses its
last second must not look as if it had lost all."""
_LAST_WORDS: Final = 2.0
"""Seconds that the last positions may take at the end."""
_NOT_A_MEMBER: Final = (-1, "", -1)
"""Generation, member id, retention by the broker: a group without members, as with manual assignment."""
_FOREIGN: Final = (errors.GroupAuthorizationFailedError, errors.ClusterAuthorizationFailedError)
_AWAY: Final = (errors.KafkaError, OSError, TimeoutError, ClusterUnavailable)


def group_of(workflow: str, connection: KafkaConnection) -> str | None:
    """A workflow's consumer group on a cluster: its `group_id`, else `headrace-<workflow>`; None if that is empty."""
    return connection.options.get("group_id", f"headrace-{workflow}") or None


async def group_offsets(connection: KafkaConnection, group: str) -> dict[Place, int]:
    """What the group has been told; nothing if there is no such group, or we may not see it.

    Raises:
        ClusterUnavailable: No client gets through to the cluster, or the group's coordinator does not answer now.
    """
    client = await connection.connect()
    try:
        # Asking for its coordinator would make a broker's first group create the topic of all groups' offsets.
        if not await _exists(client, group):
            return {}
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(node, OffsetFetchRequest(group, None), group=ConnectionGroup.COORDINATION)
        _raise_for(answer.error_code, group)
    except _FOREIGN as error:
        logger.warning("kafka_group_unseen", group=group, reason=str(error) or repr(error))
        return {}
    except (errors.KafkaError, OSError, TimeoutError) as error:
        if _is_unreadable(error):
            logger.warning("kafka_group_unreadable", group=group, reason="the broker answers in a form of its own")
            return {}
        raise connection.unavailable(error) from error
    finally:
        await client.close()
    return {(topic, number): offset for topic, rows in answer.topics for number, offset, _, code in rows if not code}


async def _exists(client: AIOKafkaClient, group: str) -> bool:
    for broker in client.cluster.brokers():
        answer = await client.send(broker.nodeId, ListGroupsRequest())
        _raise_for(answer.error_code, group)
        if any(name == group for name, _ in answer.groups):
            return True
    return False


def _is_unreadable(error: BaseException) -> bool:
    """The broker answered, but in a form that the client can't read (Tansu): asking again would not help."""
    return isinstance(error, errors.KafkaConnectionError) and isinstance(error.__cause__, ValueError)


def _raise_for(code: int, what: str) -> None:
    kind = errors.for_code(code)
    if kind is not errors.NoError:
        raise kind(what)


class GroupPositions:
    """Commits to one group, in the background; failures are logged and harmless.

    Args:
        group: Its name.
        connection: Its cluster.
    """

    def __init__(self, group: str, connection: KafkaConnection) -> None:
        self._group = group
        self._connection = connection
        self._new: dict[Place, int] = {}
        self._due: dict[Place, int] = {}
        """As `_new`, and old enough."""
        self._client: AIOKafkaClient | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; connecting waits for the first positions."""
        self._task = asyncio.create_task(self._run(), name="kafka-group-positions")

    def note(self, positions: Mapping[Place, str]) -> None:
        """These are committed in the store now: (topic, topic partition) -> position."""
        self._new.update({place: offset_of(position) for place, position in positions.items()})

    async def close(self) -> None:
        """Tell what is new, if that is quick, and stop; idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if self._client is not None:
            with contextlib.suppress(*_AWAY):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._tell(self._client, self._due | self._new)
            await self._client.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            due, self._due, self._new = self._due, self._new, {}
            if not due:
                continue
            try:
                if self._client is None:
                    self._client = await self._connection.connect()
                due = await self._tell(self._client, due)
            except _AWAY as error:
                logger.info("kafka_group_not_told", group=self._group, reason=str(error) or repr(error))
                await self._disconnect()
                if _is_unreadable(error):
                    return
            self._due = due | self._due  # what was not taken is told again, unless there is news

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _tell(self, client: AIOKafkaClient, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """Commit these; returns those that the coordinator did not take."""
        node = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
        topics = by_topic((topic, (number, offset, "")) for (topic, number), offset in offsets.items())
        request = OffsetCommitRequest(self._group, *_NOT_A_MEMBER, topics)
        with effect(Effect.GROUP):
            answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        left = {(topic, number): code for topic, rows in answer.topics for number, code in rows if code}
        for (topic, number), code in left.items():
            reason = errors.for_code(code).__name__
            logger.info("kafka_group_not_told", group=self._group, topic=topic, partition=number, reason=reason)
        return {place: offsets[place] for place in left}
