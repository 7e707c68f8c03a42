"""Turns of partitions on their worker's loop, and how long epochs are while requests come."""

from __future__ import annotations

import asyncio
import time

import pytest

from headrace.actors import sizing, turns
from headrace.actors.sizing import HURRIED, Sizing
from headrace.actors.turns import Turns


class Clock:
    """What `time.perf_counter` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


async def test_between_long_turns_the_loop_hears_what_has_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)  # every turn is too long
    seen: list[str] = []
    line = Turns()
    loop = asyncio.get_running_loop()

    def a() -> None:
        seen.append("a")
        line.ask(a_again)  # what asks during a turn does not cut the pause short
        loop.call_soon(heard, turns.PASSES - 1)

    def heard(passes: int) -> None:
        if passes:
            loop.call_soon(heard, passes - 1)
        else:
            seen.append("a connection")

    def a_again() -> None:
        seen.append("a again")

    line.ask(a)
    line.ask(lambda: seen.append("b"))
    for _ in range(3 * turns.PASSES):
        await asyncio.sleep(0)

    assert seen == ["a", "a connection", "b", "a again"]


async def test_many_turns_that_are_short_make_one_that_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    seen: list[str] = []
    line = Turns()

    def turn() -> None:
        clock.now += turns.SLICE / 2
        seen.append("turn")
        line.ask(turn)

    line.ask(turn)
    for _ in range(2):
        await asyncio.sleep(0)
    before = len(seen)
    for _ in range(turns.PASSES):
        await asyncio.sleep(0)
    assert (before, len(seen)) == (2, 2)

    for _ in range(2):  # so many fit into the next one
        await asyncio.sleep(0)
    assert len(seen) == 4


async def test_whom_somebody_waits_for_goes_first_once() -> None:
    seen: list[str] = []
    line = Turns()

    def last() -> None:
        seen.append("last")

    line.ask(lambda: seen.append("other"))
    line.ask(last)
    line.ask(last, first=True)
    line.ask(last)
    for _ in range(turns.PASSES + 1):
        await asyncio.sleep(0)
    assert seen == ["last"]  # what it has begun gets on its way

    await asyncio.sleep(0)
    assert seen == ["last", "other"]


async def test_who_goes_first_again_and_again_leaves_the_others_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(turns, "SLICE", -1.0)
    monkeypatch.setattr(turns, "PASSES", 0)
    seconds = {"first": 0.0, "other": 0.0}
    line = Turns()

    def first() -> None:
        clock.now += 0.001
        seconds["first"] += 0.001
        line.ask(first, first=True)

    def other() -> None:
        clock.now += 0.004
        seconds["other"] += 0.004
        line.ask(other)

    line.ask(other)
    line.ask(first, first=True)
    for _ in range(5_000):
        await asyncio.sleep(0)

    assert seconds["other"] == pytest.approx(seconds["first"], rel=0.05)


async def test_short_turns_are_had_in_one_pass_each_once_in_order() -> None:
    seen: list[str] = []
    line = Turns()

    def first() -> None:
        seen.append("first")

    def second() -> None:
        seen.append("second")
        if seen.count("second") == 1:
            line.ask(first)

    for turn in (first, second, first):
        line.ask(turn)
    await asyncio.sleep(0)
    assert seen == ["first", "second"]

    await asyncio.sleep(0)
    assert seen == ["first", "second", "first"]


async def test_a_turn_that_fails_takes_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[object] = []
    seen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    line = Turns()

    def broken() -> None:
        raise ZeroDivisionError

    line.ask(broken)
    line.ask(lambda: seen.append("other"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert seen == ["other"]
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


def test_epochs_are_short_for_a_while_after_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    sizes = Sizing()
    before = sizes.limit

    sizes.hurry()
    assert (sizes.limit, sizes.hurried) == (int(before * HURRIED), True)

    now += sizing.HURRY
    assert (sizes.limit, sizes.hurried) == (before, False)
