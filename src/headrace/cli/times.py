"""Times as people read them."""

from __future__ import annotations

import time


def ago(milliseconds: int | None) -> str:
    """How long ago that was, by this host's clock: `3 min ago`; nothing for None.

    Args:
        milliseconds: Since 1970 UTC.
    """
    return "" if milliseconds is None else f"{duration(time.time() - milliseconds / 1000)} ago"


def duration(seconds: float) -> str:
    """`5 s`, `12 min`, `3 h`, `4 d`: the largest unit that is full."""
    left = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if left >= size:
            return f"{left // size} {unit}"
    return f"{left} s"
