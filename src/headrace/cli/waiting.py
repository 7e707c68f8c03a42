"""Waits for servers that are not there yet: says so at once, goes on trying, says when they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from headrace.actors.store_registry import Registry
from headrace.cli.exits import Interrupted
from headrace.cli.screen import Screen
from headrace.sources.kafka_metadata import describe_topics, ensure_topics
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable

T = TypeVar("T")

PERIOD: Final = 1.0
"""Seconds between two attempts."""
PATIENCE: Final = 5.0
"""Seconds without an answer after which a broker counts as away: it may be suspended, or behind a firewall."""


class BrokerUnavailable(HeadraceError):
    """No broker answers at an address.

    Attributes:
        bootstrap: The address.
    """

    def __init__(self, bootstrap: str, cause: str) -> None:
        super().__init__(f"Kafka at {bootstrap} does not answer: {cause}. Check that it runs and can be reached")
        self.bootstrap = bootstrap


async def until_there(ask: Callable[[], Awaitable[T]], name: str, screen: Screen, given_up: Callable[[], bool]) -> T:
    """Ask until there is an answer.

    Args:
        ask: Raises `StoreUnavailable` or `BrokerUnavailable` while the server is away.
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
        except (StoreUnavailable, BrokerUnavailable) as error:
            if str(error) != said:
                said = str(error)
                screen.say(f"waiting: {said}; trying again every second.", "yellow")
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


async def partitions_of(bootstrap: str, topics: list[str]) -> dict[str, int]:
    """How many partitions each of these topics has; those that don't exist are left out.

    Raises:
        BrokerUnavailable: No broker answers.
    """
    with _silent_client():
        client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(PATIENCE * 1000))
        try:
            async with asyncio.timeout(PATIENCE):
                await client.bootstrap()
                found = await describe_topics(client, topics)
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(bootstrap, _cause(error)) from error
        finally:
            await client.close()
    return {name: len(topic.leaders) for name, topic in found.items()}


async def make_topics(bootstrap: str, topics: Mapping[str, int]) -> list[str]:
    """Make those of the topics that don't exist, with that many partitions; returns their names.

    Raises:
        BrokerUnavailable: No broker answers, or it refuses.
    """
    with _silent_client():
        try:
            return await ensure_topics(bootstrap, topics)
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(bootstrap, _cause(error)) from error


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    return str(error).rstrip(".") or type(error).__name__


@contextmanager
def _silent_client() -> Iterator[None]:
    """The client logs an error for each attempt, also where one is expected to fail."""
    logger = logging.getLogger("aiokafka")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
