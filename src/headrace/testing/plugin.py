"""Fixtures for pytest: harnesses that are closed by themselves, and real servers for tests that need them.

Pytest finds this module where Headrace is installed; nothing is started, or even imported, until a test asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

if TYPE_CHECKING:
    from headrace.embedded import ApacheKafka, Tansu, Valkey
    from headrace.testing import Harness
    from headrace.workflows.workflow import Workflow

_DATABASES: Final = 1024
_OPTION: Final = "headrace_broker"


class MakeHarness(Protocol):
    """`headrace_harness(workflow, **options)`: what `headrace.testing.Harness` takes."""

    def __call__(self, workflow: Workflow, **options: Any) -> Harness:
        """A harness, open until the test ends."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """One setting, for `[tool.pytest.ini_options]`."""
    parser.addini(
        _OPTION, "Broker of the fixture headrace_kafka: tansu (pip only) or apache (Java and Maven)", default="tansu"
    )


@pytest.fixture
def headrace_harness() -> Iterator[MakeHarness]:
    """Makes harnesses, and closes them at the end of the test."""
    from headrace.testing import Harness  # noqa: PLC0415  only for tests that ask for it

    opened: list[Harness] = []

    def make(workflow: Workflow, **options: Any) -> Harness:
        harness = Harness(workflow, **options)
        harness.__enter__()
        opened.append(harness)
        return harness

    yield make
    for harness in reversed(opened):
        harness.__exit__(None, None, None)


@pytest.fixture(scope="session")
def headrace_valkey() -> Iterator[Valkey]:
    """A Valkey of this session's own, for all tests; see `headrace_redis_url`."""
    from headrace.embedded import Valkey  # noqa: PLC0415

    with Valkey(options={"databases": str(_DATABASES)}) as server:
        yield server


@pytest.fixture(scope="session")
def _headrace_databases() -> Iterator[int]:
    return iter(itertools.cycle(range(1, _DATABASES)))


@pytest.fixture
def headrace_redis_url(headrace_valkey: Valkey, _headrace_databases: Iterator[int]) -> str:
    """Address of an empty database of this test's own."""
    return f"redis://127.0.0.1:{headrace_valkey.port}/{next(_headrace_databases)}"


@pytest.fixture(scope="session")
def headrace_kafka(pytestconfig: pytest.Config) -> Iterator[ApacheKafka | Tansu]:
    """A Kafka broker of this session's own: `.bootstrap` is its address. Which one, `headrace_broker` says."""
    from headrace.embedded import ApacheKafka, Tansu  # noqa: PLC0415

    brokers: dict[str, type[ApacheKafka] | type[Tansu]] = {"tansu": Tansu, "apache": ApacheKafka}
    chosen = pytestconfig.getini(_OPTION)
    if chosen not in brokers:
        raise pytest.UsageError(f"{_OPTION} = {chosen}: write one of {', '.join(brokers)}")
    cache = pytestconfig.rootpath / ".headrace" / "cache"
    with brokers[chosen](cache=cache) as server:
        yield server
