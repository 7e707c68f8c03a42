"""Rows of recorded files, one after the other in bounded memory, from any place that was told before."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

from headrace.workflows.errors import HeadraceError

Format: TypeAlias = Literal["csv", "jsonl", "parquet"]
SUFFIXES: Final[Mapping[str, Format]] = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_ROWS_AT_ONCE: Final = 1000


class ReplayFileChanged(HeadraceError):
    """A recorded file is gone, or is not the one that was read before.

    Attributes:
        file: Its name.
        what: What is wrong.
    """

    def __init__(self, file: str, what: str) -> None:
        self.file = file
        self.what = what
        super().__init__(
            f"{file} {what}. Bring it back where every worker can read it, or give the source another name="
        )

    def __reduce__(self) -> tuple[type[ReplayFileChanged], tuple[str, str]]:
        return ReplayFileChanged, (self.file, self.what)


@dataclass(frozen=True, slots=True)
class Place:
    """Behind a row."""

    file: str
    """Relative to the folder of the recording."""
    row: int = 0
    """Rows before it, in its file."""
    byte: int = 0
    """Where the next one begins; 0 in files that are not read by bytes."""

    @classmethod
    def parse(cls, text: str) -> Place:
        """From the text of a position."""
        rest, _, byte = text.rpartition(":")
        file, _, row = rest.rpartition(":")
        return cls(file, int(row), int(byte))

    def __str__(self) -> str:
        return f"{self.file}:{self.row}:{self.byte}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is in its file."""

    after: Place
    values: Mapping[str, Any] | bytes
    """By column; of JSON lines the line."""
    fault: str | None = None
    """It is broken; `values` is what could be read."""


def rows_of(file: Path, format: Format, place: Place) -> Iterator[Row]:
    """Rows of one file behind `place`.

    Raises:
        ReplayFileChanged: It is shorter than the place says.
        OSError: It can't be read.
    """
    return _READERS[format](file, place)


def _csv_rows(file: Path, place: Place) -> Iterator[Row]:
    with file.open("rb") as opened:
        lines = _Lines(opened)
        reader = csv.reader(lines)
        header = next(reader, [])
        _go_to(opened, place, file)
        number = place.row
        while True:
            lines.taken.clear()
            fault = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells, fault = [], str(error)
            if not cells and fault is None:
                continue
            if fault is None and len(cells) != len(header):
                fault = f"it has {len(cells)} values, and the file {len(header)} columns"
            if fault is None and any(cell != cell.encode("utf-8", "replace").decode() for cell in cells):
                fault = "it is not UTF-8"
            number += 1
            values = b"".join(lines.taken) if fault else dict(zip(header, cells, strict=True))
            yield Row(Place(place.file, number, opened.tell()), values, fault)


def _json_rows(file: Path, place: Place) -> Iterator[Row]:
    with file.open("rb") as opened:
        _go_to(opened, place, file)
        number = place.row
        while line := opened.readline():
            if line.strip():
                number += 1
                yield Row(Place(place.file, number, opened.tell()), line.strip())


def _parquet_rows(file: Path, place: Place) -> Iterator[Row]:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    with parquet.ParquetFile(file) as opened:
        if opened.metadata.num_rows < place.row:
            raise ReplayFileChanged(place.file, f"has {opened.metadata.num_rows} rows, and {place.row} of it were read")
        number = 0
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if number + rows <= place.row:
                number += rows
                continue
            for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group]):
                for values in batch.to_pylist():
                    number += 1
                    if number > place.row:
                        yield Row(Place(place.file, number), values)


_READERS: Final[Mapping[Format, Callable[[Path, Place], Iterator[Row]]]] = {
    "csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows,
}  # fmt: skip


def _go_to(opened: BinaryIO, place: Place, file: Path) -> None:
    size = file.stat().st_size
    if place.byte > size:
        raise ReplayFileChanged(place.file, f"has {size} bytes, and {place.byte} of it were read")
    if place.byte:
        opened.seek(place.byte)


class _Lines:
    """Lines of a file for `csv.reader`, which takes no more of them than it needs for a row."""

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened
        self._first = True
        self.taken: list[bytes] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._opened.readline()
        if not line:
            raise StopIteration
        self.taken.append(line)
        encoding, self._first = ("utf-8-sig" if self._first else "utf-8"), False
        return line.decode(encoding, "surrogateescape")
