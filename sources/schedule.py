"""A clock as a source: what users write (later release)."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from headrace.workflows.ports import Source


@dataclass(frozen=True, eq=False)
class ScheduleSource(Source[datetime]):
    """An event at each time of a schedule; its data is the time it was due."""

    cron: str | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    every: timedelta | None = field(default=None, kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)
    """Name in the IANA database: `Europe/Berlin`."""
    name: str = field(default="schedule", kw_only=True)
    type: builtins.type[datetime] = field(default=datetime, init=False)
    key: str | Callable[[datetime], str] | None = field(default=None, init=False)

    kind: ClassVar[str] = "schedule"
    available: ClassVar[bool] = False
