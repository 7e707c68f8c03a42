"""How much waits in a worker to leave, and how much of it is too much."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from headrace.workflows.commit import Output

BACKLOG: Final = 50_000
"""Outputs that may wait in a worker; beyond it its partitions take no new events."""
BACKLOG_BYTES: Final = 64 << 20
"""The same, by the size of their data."""


def size_of(outputs: Collection[Output]) -> int:
    """Bytes of their data."""
    return sum([len(output.data) for output in outputs if output.data])


class Backlog:
    """How much waits."""

    def __init__(self) -> None:
        self._outputs = self._bytes = 0

    def count(self, outputs: int, size: int) -> None:
        """So many more, or less where they are negative: outputs, and bytes of their data."""
        self._outputs += outputs
        self._bytes += size

    @property
    def full(self) -> bool:
        """Too much."""
        return self._outputs > BACKLOG or self._bytes > BACKLOG_BYTES
