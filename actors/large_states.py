"""Warns of states that come near their cap, before events of their runs become dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

EVERY: Final = 60.0
"""Seconds between two warnings of one node."""


class LargeStates:
    """Counts the events that left a large state, and logs one of them for each node and minute.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self.count = 0
        """Events so far, for the status."""

    def __call__(self, node: str, key: str, size: int, cap: int) -> None:
        """See `state_sizes.OnLarge`."""
        self.count += 1
        now = self._clock()
        if now - self._told.get(node, float("-inf")) >= EVERY:
            self._told[node] = now
            log.warning(
                "state_large", node=node, key=key, bytes=size, cap=cap,
                cure="keep less, or less long: over the cap, events of this run become dead letters",
            )  # fmt: skip
