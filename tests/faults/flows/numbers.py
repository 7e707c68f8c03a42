"""A source of a user's own, unkeyed: adds up the numbers in a file beside it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace import Context, CustomSource, Event, Record, Split, Workflow


class Numbers(CustomSource[int]):
    """Numbers, one a line; position: how many lines are done."""

    delivery = "exactly-once"

    def open(self, split: str, position: str | None) -> Split[int]:
        """All lines, from there on."""
        lines = Path(__file__).with_name("numbers.txt").read_text().split()
        return NumbersOf(lines, int(position or 0))


class NumbersOf(Split[int]):
    """A few lines at a time."""

    def __init__(self, lines: list[str], row: int) -> None:
        self.lines, self.row = lines, row

    def read(self, limit: int) -> list[Record[int]] | None:
        """At most seven, so that there are many epochs."""
        first, self.row = self.row, min(self.row + 7, len(self.lines))
        return [Record(int(self.lines[row]), position=str(row + 1)) for row in range(first, self.row)] or None


class Sum(msgspec.Struct):
    """Of what was seen."""

    count: int = 0
    total: int = 0


def add(event: Event[int], ctx: Context[Sum]) -> None:
    """Each number once."""
    ctx.state.count += 1
    ctx.state.total += event.data


workflow = Workflow("numbers", keyed=False)
numbers = workflow.source(Numbers(int, name="numbers"))
numbers.to(workflow.node(add))
