"""A worker ends a supervisor that is silent for long, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from headrace.actors.guardian import PATIENCE, Guardian
from headrace.embedded import Valkey
from headrace.workflows.keyspace import lease_key

LEASE = lease_key("headrace:w:supervisor")


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.flushdb()
    client.close()


def guardian_of(redis_url: str, ended: list[str]) -> Guardian:
    return Guardian(redis_url, "w", 0, end=ended.append)


def test_a_silent_supervisor_is_ended_once_patience_is_over(redis_url: str, store: redis.Redis) -> None:
    ended: list[str] = []
    guardian = guardian_of(redis_url, ended)
    store.set(LEASE, "x")
    guardian.look(100.0)
    store.delete(LEASE)

    guardian.look(100.0 + PATIENCE)
    assert ended == []
    guardian.look(101.0 + PATIENCE)

    assert ended == ["headrace:w:supervisor"]


def test_one_that_comes_back_in_time_is_left_alone(redis_url: str, store: redis.Redis) -> None:
    ended: list[str] = []
    guardian = guardian_of(redis_url, ended)
    guardian.look(100.0)
    store.set(LEASE, "x")
    guardian.look(104.0)
    store.delete(LEASE)

    guardian.look(104.0 + PATIENCE)

    assert ended == []


def test_a_store_that_is_away_says_nothing(own_valkey: Valkey) -> None:
    ended: list[str] = []
    guardian = guardian_of(f"redis://127.0.0.1:{own_valkey.port}/0", ended)
    own_valkey.stop()

    for second in range(60):
        guardian.look(100.0 + second)

    assert ended == []
