"""Tables that fit a narrow terminal, and lines that are broken between words there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_WIDE: Final = 10_000


class Fitting:
    """A table that leaves out columns, the least important first, where there is no room for all; and says so.

    Args:
        make: Makes the table without these columns.
        spare: Columns that may be left out, in this order.
    """

    def __init__(self, make: Callable[[Collection[str]], Table], spare: Sequence[str]) -> None:
        self._make = make
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=_WIDE)
        if not console.is_terminal:  # a file or a program: all of it, however wide
            table = self._make(())
            yield from console.render(table, options.update(width=Measurement.get(console, wide, table).maximum))
            return
        left: Sequence[str] = ()
        table = self._make(left)
        while len(left) < len(self._spare) and Measurement.get(console, wide, table).maximum > options.max_width:
            left = self._spare[: len(left) + 1]
            table = self._make(left)
        yield table
        if left:
            yield Text(f"No room here for: {', '.join(left)}", "dim")


def hanging(head: Text, body: Text) -> Table:
    """A line whose rest stands below its body."""
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(head, body)
    return grid
