"""The time, as a worker tells it to the core."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since 1970 UTC by this host's clock."""
    return time.time_ns() // 1_000_000
