"""Policies for nodes that fail: how often to try again, and how long to wait before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Exponential:
    """Waits that grow by a factor, up to a cap: with 100 ms and a cap of 1 s: 100, 200, 400, 800, 1000, 1000 ms."""

    first: timedelta = timedelta(milliseconds=100)
    cap: timedelta = timedelta(minutes=1)
    factor: float = field(default=2.0, kw_only=True)

    def __call__(self, failures: int) -> timedelta:
        """The wait after so many failed attempts (1: the first)."""
        try:
            seconds = self.first.total_seconds() * self.factor ** (failures - 1)
        except OverflowError:
            return self.cap
        return timedelta(seconds=min(seconds, self.cap.total_seconds()))


@dataclass(frozen=True, slots=True)
class Linear:
    """Waits that grow by a step: with 100 ms and a step of 50 ms: 100, 150, 200 ms."""

    first: timedelta = timedelta(milliseconds=100)
    step: timedelta = timedelta(milliseconds=100)
    cap: timedelta | None = None

    def __call__(self, failures: int) -> timedelta:
        """The wait after so many failed attempts (1: the first)."""
        wait = self.first + (failures - 1) * self.step
        return wait if self.cap is None else min(wait, self.cap)


Backoff: TypeAlias = Callable[[int], timedelta]
"""From the number of failed attempts so far (1, 2, ...) to the time to wait."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try an event again when its node fails (later release)."""

    attempts: int
    """In all, the first included."""
    on: tuple[type[Exception], ...] = field(default=(Exception,), kw_only=True)
    """Errors worth another attempt; programming errors (`TypeError`, `KeyError` ...) never are, unless named."""
    backoff: Backoff = field(default=Exponential(), kw_only=True)
    """`Exponential(...)`, `Linear(...)`, or a function."""
