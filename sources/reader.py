"""The contract between a worker and what feeds it: one reader per kind of source, records in columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from headrace.workflows.records import Records

OnReady: TypeAlias = Callable[[int], None]
"""Called on the worker's loop with the number of a partition that has records to pull."""
Reached: TypeAlias = Callable[[], bool]
"""Says whether all that a partition's sources had at some moment has been pulled (or can't be, as it is paused)."""
OnProblem: TypeAlias = Callable[[str, str], None]
"""Called with a stable word (`kafka_unreachable`, `gap`, ...) and a sentence; an empty sentence takes it back."""


class Reader(Protocol):
    """Feeds one worker with the records of all sources of one kind.

    Every method is called from the worker's event loop. A reader buffers a bounded amount and fetches
    on by itself; what is not pulled is what keeps it from fetching more (back-pressure). It never
    decides where to start: positions come from the store, with the states.
    """

    paused: frozenset[int]
    """Indices of sources that a person has paused: `pull` gives nothing of them. Set from outside; empty at first."""

    async def open(self) -> None:
        """Connect. Called once, before anything else. Keeps trying while the server is away (`on_problem`)."""

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """The worker owns `partition` now: read on from `positions` (origin -> position).

        An origin without a position starts where its source says (`earliest` by default). Called again
        for the same partition after a roll-back: what was buffered for it is dropped.
        """

    async def revoke(self, partition: int) -> None:
        """The worker has lost or released `partition`: drop what is buffered for it, stop fetching it."""

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived, at most `limit` records in all, in order per origin; [] when nothing. Never waits.

        Called when `on_ready` named the partition, and again after each epoch until it gives []. A `Records`
        without records (length 0) only moves its origin's position to `after`.
        """
        ...

    async def horizon(self, partition: int) -> Reached:
        """How far the sources of `partition` go now. Waits while they can't be asked."""
        ...

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """The store has these positions (origin -> position; those of other readers are among them)."""

    async def close(self) -> None:
        """Stop fetching and disconnect; idempotent."""
