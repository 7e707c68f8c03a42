"""Waits between attempts."""

from __future__ import annotations

from datetime import timedelta

from headrace import Exponential, Linear


def milliseconds(*amounts: int) -> list[timedelta]:
    return [timedelta(milliseconds=amount) for amount in amounts]


def test_linear_waits_grow_by_a_step() -> None:
    backoff = Linear(*milliseconds(100, 50))

    assert [backoff(failures) for failures in (1, 2, 3)] == milliseconds(100, 150, 200)


def test_exponential_waits_double_up_to_a_cap() -> None:
    backoff = Exponential(*milliseconds(100, 1000))

    assert [backoff(failures) for failures in (1, 2, 3, 4, 5)] == milliseconds(100, 200, 400, 800, 1000)


def test_very_many_failures_stay_at_the_cap() -> None:
    assert Exponential()(100_000) == timedelta(minutes=1)
