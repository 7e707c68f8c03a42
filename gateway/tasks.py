"""Tasks that go on until they are told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

_AGAIN: Final = 0.05
"""Seconds after which a task that goes on is told again."""


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended; what they end with is not told.

    They are told again and again: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes in the same moment
    as what it waits for, and the Redis client uses it for each command.
    """
    going = set(tasks)
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else the loop would speak of an error that nobody has looked at
