"""A source of a user's own for tests: the lines of a file, and what a reader tells its worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace import CustomSource, Record, Split
from headrace.sources.custom_reader import CustomReader
from headrace.sources.feeding import Surroundings
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records


class Lines(CustomSource[int]):
    """Numbers, one a line; position: how many lines are done. A file for each split."""

    delivery = "exactly-once"

    def __init__(self, folder: Path, *splits: str) -> None:
        super().__init__(int, name="lines")
        self.folder = folder
        self._splits = splits or ("0",)

    def splits(self) -> Sequence[str]:
        return self._splits

    def open(self, split: str, position: str | None) -> Split[int]:
        return LinesOf((self.folder / split).read_text().split(), int(position or 0))


class LinesOf(Split[int]):
    """The lines of one file."""

    def __init__(self, lines: list[str], row: int) -> None:
        self.lines, self.row = lines, row

    def read(self, limit: int) -> list[Record[int]] | None:
        first, self.row = self.row, min(self.row + limit, len(self.lines))
        rows = range(first, self.row)
        return [Record(int(self.lines[row]), position=str(row + 1)) for row in rows] or None


@dataclass
class Told:
    """What a reader tells its worker."""

    ready: list[int] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Standing ones: word -> sentence."""
    named: list[str] = field(default_factory=list)
    """All sentences that ever stood."""
    closed: list[tuple[int, int]] = field(default_factory=list)
    now: int = 1_767_225_600_000
    """The store's time, in milliseconds since 1970 UTC."""

    def problem(self, word: str, sentence: str) -> None:
        """As a worker takes it."""
        if sentence:
            self.problems[word] = sentence
            self.named.append(sentence)
        else:
            self.problems.pop(word, None)

    async def clock(self) -> int:
        """The store's time."""
        return self.now

    def surroundings(self, *, partitions: int = 1, keyed: bool = False) -> Surroundings:
        """A worker around a reader."""
        return Surroundings(
            workflow="w", partitions=partitions, keyed=keyed, redis_url="", clock=self.clock,
            on_ready=self.ready.append, on_problem=self.problem,
            on_closed=lambda partition, source: self.closed.append((partition, source)),
        )  # fmt: skip


def plan_of(source: CustomSource[int]) -> SourcePlan:
    """As the compiler plans it."""
    return SourcePlan(0, source.name, source, 0, source.key, ())


def reader_of(source: CustomSource[int], told: Told, **surroundings: bool | int) -> CustomReader:
    """Its reader."""
    return CustomReader(plan_of(source), told.surroundings(**surroundings))  # type: ignore[arg-type]


def values_of(batches: Sequence[Records]) -> list[int]:
    """Data of what was pulled."""
    return [int(value or b"-1") for records in batches for value in records.values]
