"""Turns of partitions on their worker's loop: after a few milliseconds of them the loop hears its connections first.

Else one pass of the loop would have an epoch of each partition in it, and what a request needs is several passes: to be
read, taken in, called, committed, answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

SLICE: Final = 0.002
"""Seconds of turns after which the others wait for the next pass: a turn that has begun is not cut."""


class Turns:
    """The turns of one worker, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._waiting: dict[Callable[[], None], None] = {}
        self._asked = False

    def ask(self, turn: Callable[[], None]) -> None:
        """Have a turn, once, at one of the loop's next passes."""
        self._waiting[turn] = None
        self._come()

    def _come(self) -> None:
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        self._asked = False
        end = time.perf_counter() + SLICE
        try:
            for turn in list(self._waiting):
                del self._waiting[turn]
                turn()
                if time.perf_counter() >= end:
                    break
        finally:
            if self._waiting:
                self._come()
