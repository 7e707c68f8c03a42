"""How often Python's collector looks for cycles in a process that serves."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 50)
"""Objects made and not let go of until the youngest are looked at, and how often that is done before older ones are."""


def collect_seldom() -> None:
    """Look at what has been imported and made so far never again, and at what comes less often.

    Events and requests are many small objects that live for a moment. By Python's own thresholds all objects of the
    process are walked again and again while they come, and nothing else goes on meanwhile: 50 to 120 ms each time
    (measured, docs/explanation/benchmarks.md).
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
