"""Waits for servers that are not there yet: says so at once, goes on trying, says when they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from aiokafka.errors import KafkaError

from headrace.actors.store_registry import Registry
from headrace.cli.exits import Interrupted
from headrace.cli.screen import Screen
from headrace.sources.kafka_connection import ClusterUnavailable, KafkaConnection
from headrace.sources.kafka_metadata import describe_topics, ensure_topics
from headrace.sources.kafka_subscription import ReadsTopic, reads
from headrace.workflows.store import StoreUnavailable

T = TypeVar("T")

PERIOD: Final = 1.0
"""Seconds between two attempts."""
PATIENCE: Final = 5.0
"""Seconds without an answer after which a broker counts as away: it may be suspended, or behind a firewall."""


async def until_there(ask: Callable[[], Awaitable[T]], name: str, screen: Screen, given_up: Callable[[], bool]) -> T:
    """Ask until there is an answer.

    Args:
        ask: Raises `StoreUnavailable` or `ClusterUnavailable` while the server is away.
        name: What the server is called, for the message that it is there again.
        screen: Told the reason, once for each.
        given_up: Whether to end the wait.

    Raises:
        Interrupted: It was given up.
    """
    said = ""
    while not given_up():
        try:
            answer = await ask()
        except (StoreUnavailable, ClusterUnavailable) as error:
            if str(error) != said:
                said = str(error)
                screen.say(f"waiting: {said.rstrip('.')}; trying again every second.", "yellow")
            await asyncio.sleep(PERIOD)
        else:
            if said:
                screen.say(f"{name} answers.", "green")
            return answer
    raise Interrupted


async def check_store(url: str) -> str:
    """Name and version of the store at `url`.

    Raises:
        StoreUnavailable: It does not answer.
        StoreUnsuitable: State would not be safe there.
    """
    async with Registry(url, connections=1) as registry:
        return registry.server


async def partitions_of(
    connection: KafkaConnection, topics: Sequence[str], matching: Sequence[ReadsTopic] = ()
) -> dict[str, int]:
    """How many partitions topics have; those that don't exist are left out.

    Args:
        connection: The cluster.
        topics: Names.
        matching: Sources with patterns: what they read is wanted, too.

    Raises:
        ClusterUnavailable: No broker answers.
    """
    with _silent_client():
        try:
            async with asyncio.timeout(PATIENCE):
                client = await connection.connect()
                try:
                    found = await describe_topics(client, None if matching else topics)
                finally:
                    await client.close()
        except TimeoutError:
            raise connection.unavailable(TimeoutError(f"no answer within {PATIENCE:g} s")) from None
        except (KafkaError, OSError) as error:
            raise connection.unavailable(error) from error
    wanted = {name for name in found if name in topics or any(reads(source, name) for source in matching)}
    return {name: len(found[name].leaders) for name in wanted}


async def make_topics(connection: KafkaConnection, topics: Mapping[str, int], *, replication: int = 1) -> list[str]:
    """Make those of the topics that don't exist, with that many partitions and copies; returns their names.

    Raises:
        ClusterUnavailable: No broker answers, or it refuses.
    """
    with _silent_client():
        try:
            return await ensure_topics(connection, topics, replication=replication)
        except (KafkaError, OSError, TimeoutError) as error:
            raise connection.unavailable(error) from error


@contextmanager
def _silent_client() -> Iterator[None]:
    """The client logs an error for each attempt, also where one is expected to fail."""
    logger = logging.getLogger("aiokafka")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
