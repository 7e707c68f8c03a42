"""Batch nodes that would rather wait: records are held for `batch_delay`, until they fill a batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from headrace.workflows.plan import Plan
from headrace.workflows.records import Records


class Linger:
    """Holds the records of one partition back for a moment. Without batch nodes that ask for it, for none."""

    def __init__(self, plan: Plan) -> None:
        nodes = [node for node in plan.nodes if node.is_batch and node.batch_delay]
        self.delay = max((node.batch_delay.total_seconds() for node in nodes), default=0.0)
        """Seconds that the first of them waits at most."""
        self._size = max((node.batch_size for node in nodes), default=0) or 1_000_000
        self._held: list[Records] = []
        self._since = 0.0

    def __len__(self) -> int:
        """Records that are held."""
        return sum(map(len, self._held))

    def add(self, batches: Sequence[Records]) -> None:
        """More records have come."""
        if batches and not self._held:
            self._since = time.monotonic()
        for records in batches:
            held = self._held
            last = max((index for index, row in enumerate(held) if row.origin == records.origin), default=-1)
            if last >= 0 and _kind(held[last]) == _kind(records):
                held[last] = joined(held[last], records)
            else:
                held.append(records)

    def remaining(self) -> float:
        """Seconds that those held would still wait; 0: take them now."""
        if not self._held or len(self) >= self._size:
            return 0.0
        return max(0.0, self._since + self.delay - time.monotonic())

    def take(self) -> list[Records]:
        """Those held: what came of one origin is in its order."""
        taken, self._held = self._held, []
        return taken


def _kind(records: Records) -> tuple[object, ...]:
    """What records must have in common to be one batch: a stream can hold those of several sources."""
    return records.source, records.identity, records.topic, records.unknown, records.entry


def joined(first: Records, second: Records) -> Records:
    """Records of one origin and those that follow them."""
    offsets: Any = [*first.offsets, *second.offsets]  # both of one kind: of one origin
    return Records(
        source=first.source, origin=first.origin, offsets=offsets,
        times=first.times + second.times, keys=first.keys + second.keys, values=first.values + second.values,
        after=second.after, headers=_column(first, second, "headers", ()), ids=_column(first, second, "ids", ""),
        replies=_column(first, second, "replies", None), topic=first.topic, log=first.log,
        positions=_positions(first, second), faults=_faults(first, second),
        gaps=first.gaps | {len(first) + index for index in second.gaps}, hops=_column(first, second, "hops", 0),
        unknown=first.unknown, entry=first.entry,
    )  # fmt: skip


def _faults(first: Records, second: Records) -> dict[int, str] | None:
    shifted = {len(first) + index: fault for index, fault in (second.faults or {}).items()}
    return {**(first.faults or {}), **shifted} or None


def _positions(first: Records, second: Records) -> list[str] | None:
    """Those of a log that counts in its own way: then all of its records have some."""
    if first.positions is None and second.positions is None:
        return None
    return [*(first.positions or []), *(second.positions or [])]


def _column(first: Records, second: Records, name: str, filler: Any) -> list[Any] | None:
    one, other = getattr(first, name), getattr(second, name)
    if one is None and other is None:
        return None
    return [*(one or [filler] * len(first)), *(other or [filler] * len(second))]
