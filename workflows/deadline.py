"""A node that takes too long is given up: the deadline of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from .errors import HeadraceError


class DeadlineExceeded(HeadraceError):
    """A node was still at an event (or batch) after its `timeout=`, and was cancelled, or its process was ended."""

    reason_code = "timeout"

    def __init__(
        self, timeout: timedelta, then: str = "cancelled", trace: str = "", option: str = "timeout"
    ) -> None:  # fmt: skip
        super().__init__(f"not done after {timeout.total_seconds():g} s ({option}=), and {then}")
        self.timeout = timeout
        self.then = then
        self.trace = trace
        """Where the process stood that was ended for it."""
        self.option = option
        """What says how long it may take."""

    def __reduce__(self) -> tuple[type[DeadlineExceeded], tuple[timedelta, str, str, str]]:
        return DeadlineExceeded, (self.timeout, self.then, self.trace, self.option)


def within(
    process: Callable[..., Awaitable[Any]], timeout: timedelta, option: str = "timeout"
) -> Callable[..., Awaitable[Any]]:
    """An async node's `process` with a deadline for each call.

    It is cancelled as asyncio cancels: at its next `await`. One that catches that and goes on, or that never awaits, is
    not stopped.

    Args:
        process: The node's.
        timeout: By this process's monotonic clock.
        option: What says so, for messages.

    Raises (when called):
        DeadlineExceeded: The deadline has passed. A `TimeoutError` of the node's own goes on as it is.
    """
    seconds = timeout.total_seconds()

    async def process_within(*arguments: Any) -> Any:
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await process(*arguments)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(timeout, option=option) from None

    return process_within
