"""Takes a workflow out for good: what the store has of it, and what it has left at Kafka."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka import errors

from headrace.actors.deployments import get_deployment
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.sources.kafka_cleanup import remove_traces
from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection, connection_of
from headrace.sources.kafka_group import group_of
from headrace.sources.kafka_markers import marker_topic
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import ServerUnreachable

_WITHIN: Final = 15.0
"""Seconds for one Kafka cluster."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go."""

    workflow: str
    keys: int
    """Of the store."""
    lines: tuple[str, ...] = ()
    """What goes besides, for people."""
    deployment: Deployment | None = None
    topics: bool = False
    """Also the topics that it reads and writes."""
    kafka: bool = True
    """Also its markers and its consumer group."""


class KafkaNotCleared(ServerUnreachable):
    """What a workflow has left at Kafka can't be removed now; the store is untouched."""

    def __init__(self, workflow: str, address: str, cause: str) -> None:
        self.workflow, self.address, self.cause = workflow, address, cause
        super().__init__(
            f"What {workflow} has left at Kafka ({address}) can't be removed: {cause}. The store is as it was: type it"
            " again when Kafka answers, or leave Kafka out by --store-only."
        )

    def __reduce__(self) -> tuple[type[KafkaNotCleared], tuple[str, str, str]]:
        return type(self), (self.workflow, self.address, self.cause)


@dataclass(frozen=True, slots=True)
class _Place:
    """A Kafka cluster of a deployment, as `connection_of` asks for one."""

    name: str
    cluster: str | None


async def what_goes(registry: Registry, workflow: str, *, topics: bool, kafka: bool) -> Removal:
    """Count what a removal would take out; nothing is changed."""
    deployment = await get_deployment(registry, workflow)
    lines = []
    if deployment is not None and kafka:
        for connection, names in _clusters(deployment):
            where, group = f"Kafka {connection.address}", group_of(workflow, connection)
            lines.append(f"{where}: topic {marker_topic(workflow)} (markers), consumer group {group}")
            if topics:
                lines.append(f"{where}: topics with all their records: {', '.join(names)}")
    return Removal(
        workflow=workflow,
        keys=await registry.count_workflow(workflow),
        lines=tuple(lines),
        deployment=deployment,
        topics=topics,
        kafka=kafka,
    )


async def remove_workflow(registry: Registry, removal: Removal) -> None:
    """Do it: Kafka first, as the store says what there is. May be done again where it broke off.

    Raises:
        KafkaNotCleared: A Kafka cluster does not answer, or refuses.
        StoreUnavailable: Ask again.
    """
    if removal.deployment is not None and removal.kafka:
        for connection, names in _clusters(removal.deployment):
            try:
                await remove_traces(connection, removal.workflow, group=group_of(removal.workflow, connection))
                if removal.topics:
                    await _delete_topics(connection, names)
            except (errors.KafkaError, ClusterUnavailable, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                raise KafkaNotCleared(removal.workflow, connection.address, reason) from error
    await registry.remove_workflow(removal.workflow)


def _clusters(deployment: Deployment) -> list[tuple[KafkaConnection, tuple[str, ...]]]:
    return [
        (connection_of(_Place(deployment.workflow, cluster or None), deployment), topics)
        for cluster, topics in deployment.topics.items()
    ]


async def _delete_topics(connection: KafkaConnection, topics: tuple[str, ...]) -> None:
    admin = connection.admin()
    async with asyncio.timeout(_WITHIN):
        try:
            await connection.open_admin(admin)
            with effect(Effect.REMOVE):
                answer: Any = await admin.delete_topics(list(topics))
        finally:
            await admin.close()
    for name, code in answer.topic_error_codes:
        kind = errors.for_code(code)
        if kind not in (errors.NoError, errors.UnknownTopicOrPartitionError):
            raise kind(f"the topic {name} can't be deleted")
