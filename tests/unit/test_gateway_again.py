"""Reads are made again where their connection broke, and not where the store is slow, or says no."""

from __future__ import annotations

import pytest

from headrace.gateway import again
from headrace.gateway.again import read_again
from headrace.workflows.store import StoreFull, StoreUnavailable


class Reading:
    """Fails some times, then tells how often it was asked."""

    def __init__(self, fails: int, error: Exception | None = None) -> None:
        self.fails = fails
        self.asked = 0
        self.error = error or StoreUnavailable("redis://store", "Connection closed by server")

    async def __call__(self) -> int:
        self.asked += 1
        if self.asked <= self.fails:
            raise self.error
        return self.asked


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "_PAUSES", (0.0, 0.0))


async def test_a_read_whose_connection_broke_is_made_again() -> None:
    assert [await read_again(Reading(fails)) for fails in range(3)] == [1, 2, 3]


async def test_three_times_is_enough() -> None:
    reading = Reading(9)
    with pytest.raises(StoreUnavailable):
        await read_again(reading)

    assert reading.asked == 3


async def test_a_store_that_takes_its_time_to_fail_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "_QUICK", -1.0)
    reading = Reading(1)
    with pytest.raises(StoreUnavailable):
        await read_again(reading)

    assert reading.asked == 1


async def test_what_is_no_broken_connection_is_told_at_once() -> None:
    reading = Reading(1, StoreFull("the store", "no memory"))
    with pytest.raises(StoreFull):
        await read_again(reading)

    assert reading.asked == 1
