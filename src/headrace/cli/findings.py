"""What `doctor` finds."""

from __future__ import annotations

from typing import Literal

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    outcome: Literal["ok", "warn", "fail", "skip"]
    """`fail`: a workflow would not run, or not safely; `skip`: there was nothing to look at."""
    sentence: str
    cure: str = ""
