"""Asking until the store answers: what is named meanwhile is taken back, however the asking ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headrace.actors.undertakings import until_available
from headrace.workflows.store import NotDurable, StalePlacement, StoreUnavailable
from waiting import until_async

AWAY = StoreUnavailable("localhost:6379", "refused")


def answering(*ends: Exception | int) -> Callable[[], Awaitable[int]]:
    """Each call ends as the next of these; the last one stays."""
    left = list(ends)

    async def ask() -> int:
        end = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(end, Exception):
            raise end
        return end

    return ask


@pytest.fixture
def problems() -> dict[str, str]:
    return {}


async def test_what_is_named_changes_and_is_over_with_the_answer() -> None:
    told: list[tuple[str, bool]] = []

    ask = answering(AWAY, NotDurable("localhost:6379", "no replica", "replicas"), 7)
    assert await until_available(ask, lambda word, sentence: told.append((word, bool(sentence)))) == 7

    assert told == [
        ("store_unreachable", True), ("store_unreachable", False), ("not_durable", True), ("not_durable", False),
    ]  # fmt: skip


async def test_it_is_over_when_nobody_asks_any_more(problems: dict[str, str]) -> None:
    """The partition was dropped: its history is no more, or it is another owner's."""
    asking = asyncio.create_task(
        until_available(answering(AWAY), lambda word, sentence: problems.update({word: sentence}))
    )
    await until_async(lambda: problems.get("store_unreachable"), "it is named")

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert problems == {"store_unreachable": ""}


async def test_it_is_over_when_the_answer_is_no(problems: dict[str, str]) -> None:
    ask = answering(AWAY, StalePlacement(3, (1, 1), (1, 2)))

    with pytest.raises(StalePlacement):
        await until_available(ask, lambda word, sentence: problems.update({word: sentence}))

    assert problems == {"store_unreachable": ""}
