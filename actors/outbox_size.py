"""How much lies in a partition's outbox in the store, and when that is too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from headrace.actors.backlog import size_of
from headrace.workflows.commit import Output

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

    def add(self, first: int, outputs: Sequence[Output]) -> None:
        """An entry, behind all before it."""
        size = size_of(outputs)
        self._commits.append((first + len(outputs) - 1, len(outputs), size))
        self.outputs += len(outputs)
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
