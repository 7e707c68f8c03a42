"""A source of a user's own, unkeyed: adds up the numbers in a file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headrace import Context, CustomSink, CustomSource, Event, Message, Record, Reject, Split, Workflow, Writer


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


def add(event: Event[int], ctx: Context[Sum]) -> int:
    """Each number once."""
    ctx.state.count += 1
    ctx.state.total += event.data
    return event.data


class Lines(CustomSink[int]):
    """A file beside it: id and number, one a line."""

    def open(self) -> Writer[int]:
        """It is opened for each write."""
        return LinesOf()


class LinesOf(Writer[int]):
    """Fails now and then, and takes no number that ends in 99."""

    calls = 0

    def send(self, messages: Sequence[Message[int]]) -> list[Reject | None]:
        """Append what is taken."""
        LinesOf.calls += 1
        if LinesOf.calls % 5 == 3:
            raise OSError("no paper")
        taken = [message for message in messages if message.data % 100 != 99]
        with Path(__file__).with_name("lines.txt").open("a") as file:
            file.writelines(f"{message.id} {message.data}\n" for message in taken)
        return [None if message in taken else Reject("unlucky") for message in messages]


workflow = Workflow("numbers", keyed=False)
numbers = workflow.source(Numbers(int, name="numbers"))
lines = workflow.sink(Lines(int, name="lines"))
adding = workflow.node(add)
numbers.to(adding)
adding.to(lines)
