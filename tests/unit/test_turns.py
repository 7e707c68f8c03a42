"""Turns of partitions on their worker's loop, and how long epochs are while requests come."""

from __future__ import annotations

import asyncio
import time

import pytest

from headrace.actors import sizing, turns
from headrace.actors.sizing import HURRIED, Sizing
from headrace.actors.turns import Turns
from headrace.workflows.records import Records


async def test_long_turns_wait_for_each_other_and_what_else_the_loop_has_to_do_goes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)  # every turn is too long
    seen: list[str] = []
    line = Turns()
    loop = asyncio.get_running_loop()
    for name in ("a", "b"):
        line.ask(lambda name=name: seen.append(name))
    loop.call_soon(seen.append, "a connection")

    for _ in range(3):
        await asyncio.sleep(0)

    assert seen == ["a", "a connection", "b"]


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


@pytest.mark.parametrize(("origin", "share"), [("inbox", HURRIED), ("readings/0", 1.0), ("internal", 1.0)])
def test_epochs_are_short_for_a_while_after_requests_only(
    monkeypatch: pytest.MonkeyPatch, origin: str, share: float
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    sizes = Sizing()
    before = sizes.limit

    sizes.pulled([Records(0, origin, [], [], [], [], "")])
    assert sizes.limit == int(before * share)

    now += sizing.HURRY
    assert sizes.limit == before
