"""How long and how many dead letters a partition keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from .commit import DeadLetter

_LEAST_BYTES: Final = 4 << 20
"""Less would not hold a commit's letters: the data of each may have a megabyte."""
_MOST: Final = 10_000_000
_MILLISECOND: Final = timedelta(milliseconds=1)

Cap: TypeAlias = Literal["age", "count", "bytes"]
"""By which limit a letter was dropped."""
CAPS: Final[tuple[Cap, ...]] = ("age", "count", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long, and how many, dead letters are kept. The oldest go first; how many were dropped is counted.

    Examples:
        >>> from datetime import timedelta
        >>> from headrace import Retention, Workflow
        >>> workflow = Workflow("orders", dead_letters=Retention(age=timedelta(days=30), count=100_000))
    """

    age: timedelta | None = timedelta(days=7)
    """How old one may get; None: as old as it likes."""
    count: int | None = 10_000
    """How many a partition keeps at most; None: any number."""
    bytes: int | None = 64 << 20
    """Bytes that a partition keeps at most, as they lie in the store; None: any number."""

    @property
    def caps(self) -> dict[Cap, int]:
        """The limits that there are, as numbers: the age in milliseconds."""
        age = None if self.age is None else self.age // _MILLISECOND
        given: dict[Cap, int | None] = {"age": age, "count": self.count, "bytes": self.bytes}
        return {cap: limit for cap, limit in given.items() if limit is not None}


def retention_faults(retention: object) -> list[str]:
    """What is wrong with `Workflow(dead_letters=...)`, as sentences; none: nothing."""
    if not isinstance(retention, Retention):
        return [f"{retention!r} is no Retention"]
    faults: list[str] = []
    age: object = retention.age
    if age is not None and not (isinstance(age, timedelta) and age >= timedelta(seconds=1)):
        faults.append(f"age={age!r} is no time to keep letters: write a timedelta of a second or more, or None")
    for name, value, least in (("count", retention.count, 1), ("bytes", retention.bytes, _LEAST_BYTES)):
        number: object = value
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
            faults.append(f"{name}={number!r} is no cap: write a whole number from {least:,}, or None")
    if isinstance(retention.count, int) and retention.count > _MOST:
        faults.append(f"count={retention.count:,} is more than the {_MOST:,} that a partition may keep")
    return faults


class Kept(NamedTuple):
    """A dead letter that lies in the store."""

    entry: str
    letter: DeadLetter
    time: int
    """When it came there: milliseconds since 1970 UTC."""
    size: int
    """Bytes."""


class LettersKept(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition has of dead letters, and what it had."""

    count: int = 0
    bytes: int = 0
    dropped: Mapping[str, int] = {}
    """By the limit (`age`, `count`, `bytes`): how many were dropped for it, ever."""
    is_done: bool = True
    """There is nothing more to drop now."""


def trimmed(rows: Sequence[Kept], retention: Retention, now: int) -> tuple[list[Kept], Counter[Cap]]:
    """What is left of a partition's letters, and how many went by which limit; the store's scripts do the same.

    Args:
        rows: The oldest first.
        retention: The limits.
        now: Milliseconds since 1970 UTC.
    """
    caps, dropped = retention.caps, Counter[Cap]()
    held = sum(row.size for row in rows)
    for number, row in enumerate(rows):
        cap = _over(caps, now - row.time, len(rows) - number, held)
        if cap is None:
            return list(rows[number:]), dropped
        dropped[cap] += 1
        held -= row.size
    return [], dropped


def _over(caps: Mapping[Cap, int], age: int, count: int, size: int) -> Cap | None:
    """Which limit the oldest of a partition's letters is over."""
    measured: dict[Cap, int] = {"age": age, "count": count, "bytes": size}
    return next((cap for cap in CAPS if cap in caps and measured[cap] > caps[cap]), None)


KEPT: Final = Retention()
"""Unless a workflow says otherwise."""
