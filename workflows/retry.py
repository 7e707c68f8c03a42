"""Policies for nodes that fail: how often to try again, and how long to wait before."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec

from .actions import Reject
from .errors import HeadraceError

WhenFull: TypeAlias = Literal["pause", "dead-letter"]
"""What is done while as many events stand still as may: nothing new is taken from sources; or room is made."""
WHEN_FULL: Final[tuple[WhenFull, ...]] = ("pause", "dead-letter")
LONGEST_WAIT: Final = timedelta(days=365)
"""No back-off waits longer, whatever its function says."""
_PROGRAMMING: Final = (
    TypeError, AttributeError, NameError, LookupError, AssertionError, NotImplementedError, ImportError, SyntaxError,
    ZeroDivisionError, RecursionError, msgspec.MsgspecError,
)  # fmt: skip
"""Mistakes in the code or in the data: they fail the same way the next time."""
_SPREAD: Final = 10_000
_WAITS_KEPT: Final = 100
_MOST_ATTEMPTS: Final = 1_000_000


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
    """Try an event again when its node fails, after a wait in which other keys go on.

    The event waits durably, and later events of its key wait behind it, before that node. When the last attempt
    has failed it is a dead letter, and they go on.

    Examples:
        >>> from datetime import timedelta
        >>> from headrace import Exponential, Retry
        >>> policy = Retry(5, on=(OSError,), backoff=Exponential(timedelta(seconds=1), timedelta(minutes=5)))
        >>> [policy.backoff(failures).total_seconds() for failures in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 8.0]
    """

    attempts: int
    """In all, the first included."""
    on: tuple[type[Exception], ...] = field(default=(Exception,), kw_only=True)
    """Errors worth another attempt; programming errors (`TypeError`, `KeyError` ...) never are, unless named."""
    backoff: Backoff = field(default=Exponential(), kw_only=True)
    """`Exponential(...)`, `Linear(...)`, or a function."""
    jitter: float = field(default=0.1, kw_only=True)
    """Part of each wait, 0 to 1, by up to which it is shorter, by chance: what failed together is not tried again
    together. By the event's id, so that a test repeats."""
    _waits: dict[int, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By failures: what the backoff says, which is asked once for each."""
    _covered: dict[type, bool] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By class of errors: whether they are worth another attempt."""

    def wait(self, error: BaseException, failures: int, seed: str) -> int | None:
        """How long to wait before the next attempt, in milliseconds; None: there is none.

        Args:
            error: By which the last one failed.
            failures: Failed attempts so far, 1 after the first.
            seed: What the chance hangs on: the event's id.
        """
        if failures >= self.attempts:
            return None
        covers = self._covered.get(error.__class__)
        if not (self._covers(error) if covers is None else covers):
            return None
        wait = self._waits.get(failures)
        if wait is None:
            wait = self._wait(failures)
        chance = zlib.crc32(f"{seed}/{failures}".encode()) % _SPREAD / _SPREAD
        return int(wait * (1 - self.jitter * chance)) or 1

    def _wait(self, failures: int) -> float:
        """Milliseconds to wait, without jitter."""
        try:
            wait = min(self.backoff(failures), LONGEST_WAIT)
        except Exception:  # noqa: BLE001  the user's function; the event must not stop for it
            wait = Exponential()(failures)
        milliseconds = max(1.0, wait / timedelta(milliseconds=1))
        if isinstance(self.backoff, Exponential | Linear) and len(self._waits) < _WAITS_KEPT:
            self._waits[failures] = milliseconds
        return milliseconds

    def _covers(self, error: BaseException) -> bool:
        covers = self._decide(error)
        if not isinstance(error, HeadraceError):  # which of those are final is for each of them to say
            self._covered[error.__class__] = covers
        return covers

    def _decide(self, error: BaseException) -> bool:
        if not isinstance(error, self.on):
            return False
        if isinstance(error, Reject) or (isinstance(error, HeadraceError) and error.final):
            return False
        named = tuple(cls for cls in self.on if issubclass(cls, _PROGRAMMING))
        return not isinstance(error, _PROGRAMMING) or isinstance(error, named)


def waits_longer(retry: Retry, than: timedelta) -> bool:
    """Whether all waits of a policy in which nothing is wrong come to more than this."""
    left = than / timedelta(milliseconds=1)
    for failures in range(1, retry.attempts):
        left -= retry._wait(failures)
        if left < 0:
            return True
    return False


def retry_faults(retry: Retry) -> list[str]:
    """What is wrong with a policy, as sentences; none: nothing."""
    faults: list[str] = []
    attempts: object = retry.attempts
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 1 <= attempts <= _MOST_ATTEMPTS:
        faults.append(f"attempts={attempts!r} is no number of attempts from 1 to {_MOST_ATTEMPTS}")
    jitter: object = retry.jitter
    if not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        faults.append(f"jitter={jitter!r} is no part from 0 to 1")
    on: object = retry.on
    if (
        not isinstance(on, tuple)
        or not on
        or not all(isinstance(cls, type) and issubclass(cls, Exception) for cls in on)
    ):
        faults.append(f"on={on!r} is no tuple of classes of exceptions: write on=(OSError,)")
    try:
        waits: list[Any] = [retry.backoff(failures) for failures in (1, 2)]
    except Exception as error:  # noqa: BLE001  the user's function
        return [*faults, f"its backoff fails: {type(error).__name__}: {error}"]
    for wait in dict.fromkeys(waits):
        if not isinstance(wait, timedelta):
            faults.append(f"its backoff gives {wait!r}, no timedelta")
        elif not timedelta(0) <= wait <= LONGEST_WAIT:
            faults.append(f"its backoff waits {wait}: not between nothing and {LONGEST_WAIT.days} days")
    return faults
