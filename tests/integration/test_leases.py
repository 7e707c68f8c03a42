"""Leases on a real server: held while the process lives, lapsed by the server's clock, taken over only then."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from headrace.actors.leases import LeaseKeeper
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from waiting import until, until_async

SHORT = timedelta(milliseconds=600)
LONG = timedelta(seconds=30)


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with Registry(redis_url) as registry:
        yield registry


async def holder(registry: Registry) -> str | None:
    return (await registry.leases(["w/worker/0"]))["w/worker/0"]


async def test_a_lease_is_held_until_it_is_given_back(redis_url: str, registry: Registry) -> None:
    with LeaseKeeper(redis_url, "w/worker/0", "one", ttl=LONG) as keeper:
        until(lambda: keeper.held, "the lease is held")
        assert await registry.leases(["w/worker/0", "w/worker/1"]) == {"w/worker/0": "one", "w/worker/1": None}

    assert await holder(registry) is None


async def test_a_lease_lasts_longer_than_its_time_when_it_is_renewed(redis_url: str, registry: Registry) -> None:
    with LeaseKeeper(redis_url, "w/worker/0", "one", ttl=SHORT) as keeper:
        until(lambda: keeper.held, "the lease is held")
        first = keeper._renewed

        until(lambda: keeper._renewed - first > 2 * SHORT.total_seconds(), "it was renewed for twice its time")

        assert await holder(registry) == "one"
        assert keeper.held


async def test_a_lease_that_nobody_renews_lapses(redis_url: str, registry: Registry) -> None:
    keeper = LeaseKeeper(redis_url, "w/worker/0", "one", ttl=SHORT)
    keeper._renew()
    assert await holder(registry) == "one"

    async def lapsed() -> bool:
        return await holder(registry) is None

    await until_async(lapsed, "the lease has lapsed")


async def test_another_waits_until_the_lease_has_lapsed(redis_url: str, registry: Registry) -> None:
    dead = LeaseKeeper(redis_url, "w/worker/0", "one", ttl=SHORT)
    dead._renew()

    with LeaseKeeper(redis_url, "w/worker/0", "two", ttl=SHORT) as keeper:
        assert not keeper.held or not dead.held
        until(lambda: keeper.held, "the lease is taken over")

        assert await holder(registry) == "two"
        assert not keeper.lost


async def test_who_wakes_up_after_a_take_over_learns_that_it_lost(redis_url: str, registry: Registry) -> None:
    """Mechanism: the incarnation in the lease. Without the comparison both would think they hold it."""
    told = threading.Event()
    sleeper = LeaseKeeper(redis_url, "w/worker/0", "one", ttl=LONG, on_lost=told.set)
    sleeper._renew()
    with LeaseKeeper(redis_url, "w/worker/0", "two", ttl=LONG, take_over=True) as keeper:
        until(lambda: keeper.held, "the lease is taken over")

        sleeper.start()

        until(told.is_set, "the sleeper is told")
        assert (sleeper.lost, sleeper.held) == (True, False)
        sleeper.stop()
        assert await holder(registry) == "two"


def test_a_keeper_outlives_the_store(own_valkey: Valkey) -> None:
    with LeaseKeeper(f"redis://127.0.0.1:{own_valkey.port}/0", "w/worker/0", "one", ttl=SHORT) as keeper:
        until(lambda: keeper.held, "the lease is held")
        own_valkey.kill()
        until(lambda: not keeper.held, "it counts as lapsed while the store is away")
        assert not keeper.lost

        own_valkey.restart()

        until(lambda: keeper.held, "the lease is held again")


def test_a_store_that_hangs_does_not_hold_a_lease_for_ever(own_valkey: Valkey) -> None:
    with LeaseKeeper(f"redis://127.0.0.1:{own_valkey.port}/0", "w/worker/0", "one", ttl=SHORT) as keeper:
        until(lambda: keeper.held, "the lease is held")
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            until(lambda: not keeper.held, "it counts as lapsed while the store hangs")
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        until(lambda: keeper.held, "the lease is held again")
