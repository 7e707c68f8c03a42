"""What a broker tells about its topics: partitions, leaders, and the id that a topic made again does not share."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from aiokafka import errors
from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from headrace.sources.kafka_connection import KafkaConnection
from headrace.workflows.effects import Effect, effect


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as the cluster has it now."""

    name: str
    id: str | None
    """Changes when the topic is deleted and made again; None: this broker gives none."""
    leaders: Mapping[int, int] = field(default_factory=dict)
    """Topic partition -> node that leads it; -1: none for now."""
    internal: bool = False
    """Made by the broker for itself."""


class _Uuid(AbstractType[str | None]):  # type: ignore[misc]
    """16 bytes, as text; all zeros is None."""

    @classmethod
    def encode(cls, value: str | None) -> bytes:
        return uuid.UUID(value).bytes if value else bytes(16)

    @classmethod
    def decode(cls, data: BytesIO) -> str | None:
        found = uuid.UUID(bytes=data.read(16))
        return str(found) if found.int else None


class _TopicsResponse(Response):  # type: ignore[misc]
    API_KEY = 3  # pyright: ignore
    API_VERSION = 12  # pyright: ignore
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync_replicas", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TopicsStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicsRequest(Request[_TopicsStruct]):  # type: ignore[misc]
    """Metadata version 12 (Kafka 2.8 and later), which has topic ids; aiokafka itself speaks version 5."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str] | None) -> None:
        self._topics: list[Any] | None = None if topics is None else [(None, topic, {}) for topic in topics]

    def build(self, request_struct_class: type[_TopicsStruct]) -> _TopicsStruct:
        return request_struct_class(self._topics, False, False, {})


async def describe_topics(client: AIOKafkaClient, topics: Iterable[str] | None) -> dict[str, Topic]:
    """What the cluster knows of these topics; one that does not exist is left out, and is not made by asking.

    Args:
        client: Connected.
        topics: Their names; None: all that we may see.

    Raises:
        KafkaError: No broker answers, or one of the topics that were named may not be seen.
    """
    wanted = None if topics is None else sorted(topics)
    found: dict[str, Topic] = {}
    described = await _ask_any(client, wanted)
    for code, name, topic_id, internal, partitions, *_rest in described:
        kind = errors.for_code(code)
        if kind in (errors.UnknownTopicOrPartitionError, errors.LeaderNotAvailableError, errors.InvalidTopicError):
            continue
        if kind is not errors.NoError:
            if wanted is None:
                continue
            raise kind(name)
        leaders = {partition[1]: partition[2] for partition in partitions}
        found[name] = Topic(name, topic_id, leaders, bool(internal))
    return found


async def _ask_any(client: AIOKafkaClient, topics: list[str] | None) -> list[Any]:
    """Topics as any of the known brokers describes them."""
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    cause: Exception = errors.KafkaConnectionError("no broker is known")
    for node in nodes:
        try:
            return list((await client.send(node, _TopicsRequest(topics))).topics)
        except NotImplementedError:
            answer = await client.send(node, MetadataRequest(topics, False))
            return [(code, name, None, internal, listed) for code, name, internal, listed in answer.topics]
        except (errors.KafkaError, OSError, TimeoutError) as error:
            cause = error
    raise cause


async def ensure_topics(
    connection: KafkaConnection,
    topics: Mapping[str, int],
    *,
    configs: Mapping[str, str] | None = None,
    replication: int = 1,
) -> list[str]:
    """Make the topics that are missing; those that exist stay as they are.

    Args:
        connection: The cluster.
        topics: Name -> how many partitions.
        configs: Topic options for those that are made, such as `{"cleanup.policy": "compact"}`. For records
            with times of long ago give `{"retention.ms": "-1"}`: brokers keep a week by default, by those times.
        replication: Copies of each topic that is made.

    Returns:
        Names of the topics that were made.

    Raises:
        ClusterUnavailable: No client gets through to the cluster.
        KafkaError: The broker refuses.
    """
    admin = connection.admin()
    try:
        await connection.open_admin(admin)
        existing = set(await admin.list_topics())
        missing = {name: count for name, count in topics.items() if name not in existing}
        if not missing:
            return []
        wanted = [
            NewTopic(name=name, num_partitions=count, replication_factor=replication, topic_configs=dict(configs or {}))
            for name, count in missing.items()
        ]
        with effect(Effect.TOPIC):
            answer: Any = await admin.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            kind = errors.for_code(code)
            if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
                raise kind(name)
        return list(missing)
    finally:
        await admin.close()
