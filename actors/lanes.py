"""What waits to leave: outputs of one partition for one outlet, and how far all outlets of the partition are."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.actors.backlog import size_of
from headrace.sources.outlet import Portion, Refused
from headrace.workflows.commit import Output


class Origin(Protocol):
    """The partition that outputs come from."""

    number: int

    @property
    def owner(self) -> str:
        """Token by which it was acquired."""
        ...

    async def confirm(self) -> bool:
        """Whether the store still says that the partition is ours."""
        ...

    async def delivered(self, through: int) -> None:
        """Outputs up to this sequence have left, whatever outlet they were for: forget them in the outbox."""

    async def refused(self, rows: Sequence[tuple[int, Refused]], outlet: str) -> bool:
        """Make dead letters of what an outlet refused (with its sequence), once each, also if it is refused again.

        Returns:
            True when they are committed; False when the partition was dropped before.
        """
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Outputs of one commit for one outlet."""

    sequences: Sequence[int]
    """Of each of them, ascending."""
    outputs: Sequence[Output]
    size: int
    """Bytes of their data."""

    @classmethod
    def of(cls, sequences: Sequence[int], outputs: Sequence[Output]) -> Chunk:
        """Made once for each commit: its size is asked for often."""
        return cls(sequences, outputs, size_of(outputs))

    def split(self, through: int) -> tuple[Chunk, Chunk | None]:
        """What of it comes up to a sequence, and what after it."""
        if self.sequences[-1] <= through:
            return self, None
        done = bisect_right(self.sequences, through)
        return (
            Chunk.of(self.sequences[:done], self.outputs[:done]),
            Chunk.of(self.sequences[done:], self.outputs[done:]),
        )


@dataclass(slots=True, eq=False)
class Lane:
    """Outputs of one partition, in one stay of it, that wait for one outlet; sent in order."""

    stay: Stay
    outlet: int
    """Index of the outlet."""
    begun: bool = False
    """The outlet has said what it has of the partition."""
    busy: bool = False
    """Some of it is under way."""
    chunks: deque[Chunk] = field(default_factory=deque)

    @property
    def first(self) -> int | None:
        """Sequence of the first that has not left; None when all have."""
        return self.chunks[0].sequences[0] if self.chunks else None

    @property
    def waiting(self) -> int:
        """Outputs that have not left."""
        return sum(len(chunk.outputs) for chunk in self.chunks)

    def push(self, chunk: Chunk) -> None:
        """These are to leave, behind all before them."""
        self.chunks.append(chunk)

    def portion(self, limit: int, size: int) -> Portion:
        """The first `limit` of them, or `size` bytes, to whole commits; they stay here until `left`."""
        outputs: list[Output] = []
        through = 0
        for chunk in self.chunks:
            outputs += chunk.outputs
            size -= chunk.size
            through = chunk.sequences[-1]
            if len(outputs) >= limit or size <= 0:
                break
        return Portion(outputs, through, self.stay.origin.owner)

    def sequence_of(self, output: Output) -> int:
        """Sequence of an output that waits here; 0 if it does not any more."""
        pairs = (pair for chunk in self.chunks for pair in zip(chunk.sequences, chunk.outputs, strict=True))
        return next((sequence for sequence, waiting in pairs if waiting is output), 0)

    def left(self, through: int) -> list[Chunk]:
        """All up to a sequence have left. Returns those that waited here."""
        gone: list[Chunk] = []
        while self.chunks and self.chunks[0].sequences[0] <= through:
            done, rest = self.chunks.popleft().split(through)
            gone.append(done)
            if rest is not None:
                self.chunks.appendleft(rest)
        return gone


@dataclass(slots=True, eq=False)
class Stay:
    """A partition from its acquisition to its release or loss: its outputs, by outlet."""

    origin: Origin
    last: int
    """Sequence of the last output that the outbox had at the acquisition."""
    pushed: int = 0
    """Sequence of the last output that was pushed."""
    told: int = 0
    """Sequence up to which the origin knows that outputs have left."""
    dropped: bool = False
    lanes: dict[int, Lane] = field(default_factory=dict)

    @property
    def through(self) -> int:
        """Sequence up to which all outputs have left."""
        waiting = [lane.first - 1 for lane in self.lanes.values() if lane.first is not None]
        return min(waiting, default=self.pushed)

    def waiting(self, without: Collection[int] = ()) -> int:
        """Outputs that have not left, except those for the outlets `without`."""
        lanes = (lane for lane in self.lanes.values() if lane.outlet not in without)
        return sum(lane.waiting for lane in lanes)

    def lane(self, outlet: int) -> Lane:
        """The lane to an outlet."""
        found = self.lanes.get(outlet)
        if found is None:
            found = self.lanes[outlet] = Lane(self, outlet)
        return found
