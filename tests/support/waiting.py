"""Wait for a condition instead of sleeping: `until(lambda: server.running, "the server runs")`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

DEADLINE: Final = 20.0
"""Seconds; generous, as it is only reached by a test that fails."""
_PAUSE: Final = 0.02


def until(condition: Callable[[], Any], what: str, *, within: float = DEADLINE) -> Any:
    """The first true value of `condition()`.

    Args:
        condition: Asked again and again.
        what: Completes the sentence "waited in vain until ...".
        within: Seconds.

    Raises:
        AssertionError: It didn't come true.
    """
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain, {within:g} s, until {what}; last value: {value!r}")
        time.sleep(_PAUSE)


async def until_async(condition: Callable[[], Awaitable[Any] | Any], what: str, *, within: float = DEADLINE) -> Any:
    """As `until`, for coroutines; the condition may be a coroutine function or a plain one."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain, {within:g} s, until {what}; last value: {value!r}")
        await asyncio.sleep(_PAUSE)
