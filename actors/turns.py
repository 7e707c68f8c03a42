"""Turns of partitions on their worker's loop: after a few milliseconds of them the loop hears its connections first.

Else one pass of the loop would have an epoch of each partition in it, and what a request needs is several passes: to be
read, taken in, called, committed, answered. What has come needs some passes, too, until whoever waits for it has done
with it, each as short as there are no turns in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeAlias

Turn: TypeAlias = Callable[[], None]

SLICE: Final = 0.001
"""Seconds of turns after which the others wait for the loop's connections: a turn that has begun is not cut."""
PASSES: Final = 8
"""Passes of the loop without turns after such a slice, and after a turn that goes first, each a microsecond: what was
read meanwhile reaches its partition within three, and what was begun gets to the store."""
SHARE: Final = 0.5
"""Part of the time that turns which go first may take, while others wait."""
_CREDIT: Final = 0.05
"""Seconds by which they may be ahead of it: an answer to one request takes a few milliseconds at most."""


class Turns:
    """The turns of one worker, in the order in which they were asked for; those with requests first."""

    def __init__(self) -> None:
        self._waiting: dict[Turn, None] = {}
        self._first: dict[Turn, None] = {}
        self._credit = _CREDIT
        self._asked = False
        self._spent = 0.0
        """Seconds of turns since the loop has last had passes without any."""

    def ask(self, turn: Turn, *, first: bool = False) -> None:
        """Have a turn, once, at one of the loop's next passes.

        Args:
            turn: What is to be done then.
            first: Somebody waits for it: before all others, as long as those get their share of the time.
        """
        if first:
            self._waiting.pop(turn, None)
            self._first[turn] = None
        elif turn not in self._first:
            self._waiting[turn] = None
        self._come()

    def _come(self, after: int = 0) -> None:
        if not self._asked:
            self._asked = True
            self._pass(after)

    def _pass(self, left: int) -> None:
        loop = asyncio.get_running_loop()
        if left:
            loop.call_soon(self._pass, left - 1)
        else:
            loop.call_soon(self._give)

    def _give(self) -> None:
        hear = False
        try:
            for _ in range(len(self._first) + len(self._waiting)):
                hear = self._next() or self._spent >= SLICE
                if hear:
                    break
        finally:
            self._asked = False
            if self._first or self._waiting:
                self._come(PASSES if hear else 0)
            if hear:
                self._spent = 0.0

    def _next(self) -> bool:
        """Give one turn; true: to one that goes first, so what it has begun is to get on its way at once."""
        line = self._line()
        turn = next(iter(line))
        del line[turn]
        first = line is self._first
        began = time.perf_counter()
        try:
            turn()
        finally:
            seconds = time.perf_counter() - began
            self._spent += seconds
            self._count(seconds, first=first)
        return first

    def _line(self) -> dict[Turn, None]:
        """Where the next turn is taken from."""
        if self._first and (self._credit > 0 or not self._waiting):
            return self._first
        return self._waiting

    def _count(self, seconds: float, *, first: bool) -> None:
        """A turn took so long."""
        if first:
            self._credit = max(-_CREDIT, self._credit - seconds * (1 - SHARE))
        else:
            self._credit = min(_CREDIT, self._credit + seconds * SHARE)
