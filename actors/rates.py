"""Limits on how often something is done, counted in the store: so they hold for all processes together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.workflows.effects import Effect

_TAKE: Final = Script(Path(__file__).parent / "scripts" / "rate.lua")
_BASE: Final = "hr:{rates}:"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN: Final = re.compile(r"([0-9]{1,9})/([0-9]{0,5})([smhd])")
_LONGEST: Final = 86_400
_FIELDS: Final = 3


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds; that many may also come at once, after a pause."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """A rate as it is written: `100/s`, `600/m`, `50/10s`, `10000/d`.

        Raises:
            ValueError: It is none.

        Examples:
            >>> Rate.parse("50/10s")
            Rate(count=50, seconds=10)
        """
        found = _WRITTEN.fullmatch(text)
        count, seconds = (int(found[1]), int(found[2] or 1) * _UNITS[found[3]]) if found else (0, 0)
        if count < 1 or not 1 <= seconds <= _LONGEST:
            raise ValueError(f"{text!r} is no rate. Write it so: 100/s, 600/m, 50/10s; over a day at most")
        return cls(count, seconds)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit stands."""

    left: int
    """What may be done now."""
    full: float
    """Seconds until all of it may be done again."""
    wait: float
    """Seconds until one may be done; 0: now."""


class Kind(StrEnum):
    """How a limit fills again."""

    BUCKET = "bucket"
    """Steadily."""
    WINDOW = "window"
    """All at once, when a window of time is over: they lie one after the other from 1970 UTC on."""


async def take(registry: Registry, limits: Sequence[tuple[str, Rate, Kind]]) -> tuple[bool, list[Standing]]:
    """Count one, against all of these limits or, where one is reached, against none.

    Args:
        registry: The store.
        limits: Name of each, what it is, and how it fills again.

    Returns:
        Whether it may be done, and how each limit stands then.

    Raises:
        StoreUnavailable: It may have been counted.
    """
    fields = [
        field for name, rate, kind in limits for field in (name, str(rate.count), str(rate.seconds * 1000), kind.value)
    ]
    with store_errors(registry.address):
        allowed, *rest = await _TAKE.write(registry.client, Effect.RATE, _BASE, *fields)
    rows = [rest[first : first + _FIELDS] for first in range(0, len(rest), _FIELDS)]
    return bool(allowed), [Standing(left, full / 1000, wait / 1000) for left, full, wait in rows]
