"""Times as people read them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from headrace.cli.exits import UsageError

_UNITS: Final = {
    "s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1),
}  # fmt: skip


def ago(milliseconds: int | None) -> str:
    """How long ago that was, by this host's clock: `3 min ago`; nothing for None.

    Args:
        milliseconds: Since 1970 UTC.
    """
    return "" if milliseconds is None else f"{duration(time.time() - milliseconds / 1000)} ago"


def length(text: str) -> timedelta:
    """A length of time as it is typed: `90s`, `10m`, `2h`, `7d`.

    Raises:
        UsageError: It is none.
    """
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdecimal():
        raise UsageError(f"{text!r} is no length of time. Write it so: 90s, 10m, 2h, 7d")
    try:
        return int(number) * unit
    except OverflowError:
        raise UsageError(f"{text!r} is longer than can be counted.") from None


def duration(seconds: float) -> str:
    """`5 s`, `12 min`, `3 h`, `4 d`: the largest unit that is full."""
    left = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if left >= size:
            return f"{left // size} {unit}"
    return f"{left} s"
