"""Reads that are made again where their connection broke: they change nothing, and the next connection may be good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from headrace.workflows.store import StoreUnavailable

T = TypeVar("T")
_PAUSES: Final = (0.05, 0.2)
"""Seconds before each further try."""
_QUICK: Final = 1.0
"""Seconds within which one has failed that is made again; what takes longer would take as long again."""


async def read_again(read: Callable[[], Awaitable[T]]) -> T:
    """What a read gives.

    Args:
        read: Makes it; asked three times at most.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    for pause in _PAUSES:
        began = time.monotonic()
        try:
            return await read()
        except StoreUnavailable:
            if time.monotonic() - began > _QUICK:
                raise
        await asyncio.sleep(pause)
    return await read()
