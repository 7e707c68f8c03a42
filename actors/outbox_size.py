"""How much lies in a partition's outbox in the store, and when that is too much."""

from __future__ import annotations

from collections import deque
from typing import Final

QUOTA: Final = 50_000
"""Outputs that may lie in one partition's outbox; beyond it the partition takes no new events."""
QUOTA_BYTES: Final = 16 << 20
"""The same, by the size of their data."""


class OutboxSize:
    """Counts what one stay has put into the outbox, or found there, and what was trimmed.

    What waits in the worker does not tell: of several outlets one may be blocked, and all that leaves by the others
    stays in the store behind the first output that can't.
    """

    def __init__(self) -> None:
        self._commits: deque[tuple[int, int, int]] = deque()
        """Last sequence, outputs and bytes of each entry, oldest first."""
        self.outputs = self.bytes = 0

    def add(self, first: int, outputs: int, size: int) -> None:
        """An entry, behind all before it: sequence of its first output, how many it has, and their bytes."""
        self._commits.append((first + outputs - 1, outputs, size))
        self.outputs += outputs
        self.bytes += size

    def trim(self, through: int) -> None:
        """Entries whose outputs all have a sequence up to this are gone."""
        while self._commits and self._commits[0][0] <= through:
            _, outputs, size = self._commits.popleft()
            self.outputs -= outputs
            self.bytes -= size

    @property
    def full(self) -> bool:
        """No more, until something can leave."""
        return self.outputs > QUOTA or self.bytes > QUOTA_BYTES
