"""Real servers for all tests: one Valkey, one Kafka broker and one Ray a session, or one's own to kill.

Nothing here touches a process that the session did not start.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis.asyncio

from brokers import CACHE, Broker, Choice, Topics, choose
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey

hypothesis.settings.register_profile("house", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("house")

_CHOICE = pytest.StashKey[Choice]()
_DATABASES = 4096
_databases = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the broker before anything runs."""
    config.stash[_CHOICE] = choose()


def pytest_report_header(config: pytest.Config) -> str:
    """Say which broker it is."""
    return f"broker: {config.stash[_CHOICE].sentence}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it again at the end, where people look."""
    terminalreporter.write_line(f"broker: {config.stash[_CHOICE].sentence}")


@pytest.fixture(scope="session")
def cache() -> Path:
    """Folder of programs that are fetched once: `ApacheKafka(cache=cache)`."""
    return CACHE


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The session's Valkey; tests share it, so none of them stops it. Its database 0 is for the session's cluster."""
    with Valkey(options={"databases": str(_DATABASES)}) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """URL of an empty database of this test's own."""
    return f"redis://127.0.0.1:{valkey.port}/{next(_databases)}"


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Client of that database; the database is emptied afterwards."""
    client = redis.asyncio.Redis.from_url(redis_url)
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey that only this test uses, so it may kill and restart it; each write is on disk when answered."""
    with Valkey(folder=tmp_path / "valkey", appendfsync="always") as server:
        yield server


@pytest.fixture(scope="session")
def broker_choice(pytestconfig: pytest.Config) -> Choice:
    """Which broker this session runs against: `.broker`, and `.start(folder)` for another one of it."""
    return pytestconfig.stash[_CHOICE]


@pytest.fixture(scope="session")
def kafka(broker_choice: Choice) -> Iterator[Broker]:
    """The session's broker; tests share it, so none of them stops it."""
    broker = broker_choice.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_kafka(broker_choice: Choice, tmp_path: Path) -> Iterator[Broker]:
    """A broker that only this test uses, so it may kill and restart it."""
    broker = broker_choice.start(tmp_path / "kafka")
    yield broker
    broker.stop()


@pytest.fixture
def topic(kafka: Broker) -> Iterator[Topics]:
    """Makes topics of this test's own: `topic(partitions=4, name="readings")` returns the name."""
    topics = Topics(kafka.bootstrap)
    yield topics
    topics.remove()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[LocalRay]:
    """A Ray of the session's own on loopback, to which this process is connected; starting one takes seconds."""
    with LocalRay(cpus=4) as cluster:
        yield cluster
