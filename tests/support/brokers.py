"""Which Kafka broker the tests run against, and topics of a test's own."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.embedded import ApacheKafka, Tansu
from headrace.embedded.maven import KAFKA_VERSION

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache"
"""Programs that tests fetch once; not under version control."""

Broker: TypeAlias = ApacheKafka | Tansu


@dataclass(frozen=True)
class Choice:
    """The broker of this test session.

    Attributes:
        broker: `ApacheKafka` or `Tansu`.
        sentence: For people: which, and why.
    """

    broker: type[ApacheKafka] | type[Tansu]
    sentence: str

    def start(self, folder: Path | None = None) -> Broker:
        """A new one, up."""
        return self.broker(cache=CACHE, folder=folder).start()


def choose(environment: Mapping[str, str] = os.environ) -> Choice:
    """The real broker where it can be had, else Tansu.

    `HEADRACE_TEST_BROKER=apache` or `=tansu` forces one; `HEADRACE_REQUIRE_APACHE=1` makes a missing
    Apache Kafka an error.

    Raises:
        pytest.UsageError: What is asked for can't be had.
    """
    wanted = environment.get("HEADRACE_TEST_BROKER", "")
    required = environment.get("HEADRACE_REQUIRE_APACHE") == "1"
    if wanted not in {"", "apache", "tansu"}:
        raise pytest.UsageError(f"HEADRACE_TEST_BROKER={wanted}: give apache or tansu")
    if required and wanted == "tansu":
        raise pytest.UsageError("HEADRACE_REQUIRE_APACHE=1 and HEADRACE_TEST_BROKER=tansu contradict each other")
    if wanted == "tansu":
        return Choice(Tansu, "Tansu, in memory and without transactions (HEADRACE_TEST_BROKER)")
    reason = ApacheKafka.missing()
    if reason is None:
        return Choice(ApacheKafka, f"Apache Kafka {KAFKA_VERSION}, with transactions")
    if required or wanted == "apache":
        raise pytest.UsageError(f"the tests must run against Apache Kafka, but {reason}")
    return Choice(Tansu, f"Tansu, in memory and without transactions; not Apache Kafka: {reason}")


class Topics:
    """Makes topics with names of their own, from tests with or without an event loop, and removes them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._names: list[str] = []

    def __call__(self, partitions: int = 1, *, name: str = "topic", **settings: str) -> str:
        """Create a topic.

        Args:
            partitions: How many.
            name: How its name starts; the rest makes it unique.
            settings: The topic's, with underscores for dots: `cleanup_policy="compact"`.

        Returns:
            Its name.
        """
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        self.create(unique, partitions, **settings)
        return unique

    def create(self, name: str, partitions: int = 1, **settings: str) -> None:
        """Create a topic of just this name, which nobody else may have."""
        new = NewTopic(name, partitions, 1, topic_configs={k.replace("_", "."): v for k, v in settings.items()})
        _wait_for(self._create(new))
        self._names.append(name)

    def remove(self) -> None:
        """Delete all of them."""
        if self._names:
            _wait_for(self._delete(self._names))
            self._names = []

    async def _create(self, new: NewTopic) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            answer = await admin.create_topics([new])
            errors = [error for error in answer.topic_errors if error[1]]
            assert not errors, f"the broker refused the topic: {errors}"
        finally:
            await admin.close()

    async def _delete(self, names: list[str]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.delete_topics(names)
        finally:
            await admin.close()


def _wait_for(work: Coroutine[Any, Any, None]) -> None:
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()
