"""Removes what a workflow has left in a Kafka cluster of its own making: its markers and its consumer group."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DeleteGroupsRequest

from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_markers import marker_topic
from headrace.workflows.effects import Effect, effect

_WITHIN: Final = 10.0
_RETRY_SECONDS: Final = 0.1
_NOT_YET: Final = (
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)
_GROUP_ID_NOT_FOUND: Final = 69  # which aiokafka has no class for


async def remove_traces(connection: KafkaConnection, workflow: str, *, group: str | None = None) -> None:
    """Remove the markers of a workflow that is removed itself, and its consumer group; what is not there is fine.

    Transactional ids need no removal: they carry the incarnation, and brokers forget unused ones after a week.

    Args:
        connection: A cluster that it has sent to or read from.
        workflow: Its name.
        group: Name of the group that was told of its positions.

    Raises:
        ClusterUnavailable: No client gets through to the cluster.
        KafkaError: The broker refuses.
        TimeoutError: It does not get done.
    """
    async with asyncio.timeout(_WITHIN):
        await _remove_topic(connection, marker_topic(workflow))
        if group is not None:
            await _remove_group(connection, group)


async def _remove_topic(connection: KafkaConnection, topic: str) -> None:
    admin = connection.admin()
    try:
        await connection.open_admin(admin)
        with effect(Effect.REMOVE):
            answer: Any = await admin.delete_topics([topic])
        for name, code in answer.topic_error_codes:
            kind = errors.for_code(code)
            if kind not in (errors.NoError, errors.UnknownTopicOrPartitionError):
                raise kind(f"the topic {name} can't be deleted: {kind.description or kind.__name__}")
    finally:
        await admin.close()


async def _remove_group(connection: KafkaConnection, group: str) -> None:
    client = await connection.connect()
    try:
        while True:
            try:
                code = await _ask_to_remove(client, group)
            except _NOT_YET:
                code = errors.CoordinatorNotAvailableError.errno
            kind = errors.for_code(code)
            if kind is errors.NoError or code == _GROUP_ID_NOT_FOUND:
                return
            if kind not in _NOT_YET:
                raise kind(f"the consumer group {group} can't be deleted: {kind.description or kind.__name__}")
            await asyncio.sleep(_RETRY_SECONDS)
    finally:
        await client.close()


async def _ask_to_remove(client: AIOKafkaClient, group: str) -> int:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    with effect(Effect.REMOVE):
        answer = await client.send(node, DeleteGroupsRequest([group]), group=ConnectionGroup.COORDINATION)
    ((_, code),) = answer.results
    return int(code)
