"""What may be a coroutine, run to its end."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Any


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("a unit of plain functions waited for something")


async def awaited(value: Any) -> None:
    """Wait for what a user's method gave, if there is something to wait for."""
    if inspect.isawaitable(value):
        await value
