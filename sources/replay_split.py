"""Reads a recording: rows become data of the source's type, at the pace of their times."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Generic

import msgspec
import msgspec.inspect as inspection
from typing_extensions import TypeVar

from headrace.sources.custom import Raw, Record, Split
from headrace.sources.replay_files import Format, Place, ReplayFileChanged, Row, rows_of
from headrace.workflows.intake import milliseconds

D = TypeVar("D")


class Conversion(Generic[D]):
    """From a row to data, and to the time at which it happened."""

    def __init__(self, data_type: type[D], time: str | Callable[[D], datetime] | None) -> None:
        self._type = data_type
        self._time = time
        self._decode = msgspec.json.Decoder(data_type).decode
        self._columns = _columns(data_type)

    def record(self, row: Row, name: str) -> Record[D]:
        """A row as a record of the source `name`; a broken one says what is wrong with it."""
        data: D | Raw
        when: datetime | None = None
        if row.fault is not None:
            data = Raw(_text(row.values), row.fault)
        elif isinstance(row.values, bytes) and self._time is None:
            data = Raw(row.values)  # decoded once, where its key is taken
        else:
            try:
                data = self._data(row.values)
                when = None if self._time is None else self._when(data)
            except Exception as error:  # noqa: BLE001  a row that does not fit, or the user's function
                data = Raw(_text(row.values), f"{error}" if isinstance(error, msgspec.MsgspecError) else repr(error))
        return Record(data, position=str(row.after), time=when, id=f"{name}/{row.after.file}/{row.after.row}")

    def _data(self, values: Any) -> D:
        if isinstance(values, bytes):
            return self._decode(values)
        return msgspec.convert(self._cells(values), self._type, strict=False)

    def _cells(self, values: dict[str, Any]) -> dict[str, Any]:
        """Cells without text are no text where the type takes none: left out, or None."""
        cells = {}
        for name, value in values.items():
            takes_text, takes_none = self._columns.get(name, (True, False))
            if value != "" or (takes_text and not takes_none):
                cells[name] = value
            elif takes_none:
                cells[name] = None
        return cells

    def _when(self, data: D) -> datetime:
        assert self._time is not None
        if callable(self._time):
            found: Any = self._time(data)
        else:
            found = data[self._time] if isinstance(data, dict) else getattr(data, self._time)
        if isinstance(found, str):
            found = datetime.fromisoformat(found)
        if isinstance(found, datetime):
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return datetime.fromtimestamp(milliseconds(found) / 1000, UTC)


class Replay(Split[D]):
    """The files of one recording, from a position on.

    Args:
        name: Of the source.
        root: Folder that names of files are relative to.
        files: All of them, in order.
        format: Of all of them.
        conversion: From rows to data.
        speed: How many times as fast as it happened; None: as fast as it can be taken.
        position: As committed; None: from the first row.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[Path],
        format: Format,
        conversion: Conversion[D],
        speed: float | None,
        position: str | None,
    ) -> None:
        self._name = name
        self._conversion = conversion
        self._speed = speed
        self._rows = _all_rows(root, files, format, position)
        self._ahead: deque[Record[D]] = deque()
        self._begin: tuple[float, datetime] | None = None
        """When the first row went: by the loop's clock, and by its own time."""

    async def read(self, limit: int) -> Sequence[Record[D]] | None:
        """The rows whose time has come; waits for the next one if there is none."""
        if not self._ahead:
            self._ahead.extend(self._conversion.record(row, self._name) for row in islice(self._rows, limit))
        ready: list[Record[D]] = []
        while self._ahead and len(ready) < limit:
            wait = self._wait(self._ahead[0].time)
            if wait > 0:
                if ready:
                    break
                await asyncio.sleep(wait)
            ready.append(self._ahead.popleft())
        return ready or None

    def _wait(self, when: datetime | None) -> float:
        if self._speed is None or when is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        if self._begin is None:
            self._begin = now, when
        began, first = self._begin
        return began + (when - first).total_seconds() / self._speed - now

    def close(self) -> None:
        """Close the file that is open."""
        self._rows.close()


def _all_rows(root: Path, files: Sequence[Path], format: Format, position: str | None) -> Any:
    """A generator over all files, so that it can be closed."""
    names = [file.relative_to(root).as_posix() for file in files]
    place = Place(names[0]) if position is None else Place.parse(position)
    if place.file not in names:
        raise ReplayFileChanged(str(root / place.file), "is gone, and it was read in part")
    return _rows(root, names[names.index(place.file) :], format, place)


def _rows(root: Path, names: Sequence[str], format: Format, place: Place) -> Iterator[Row]:
    for name in names:
        yield from rows_of(root / name, format, place if name == place.file else Place(name))


def _columns(data_type: Any) -> dict[str, tuple[bool, bool]]:
    """By column: whether its field takes text, and whether it takes None."""
    columns = {}
    for field in getattr(inspection.type_info(data_type), "fields", ()):
        info = field.type.type if isinstance(field.type, inspection.Metadata) else field.type
        parts = info.types if isinstance(info, inspection.UnionType) else (info,)
        columns[field.encode_name] = (
            any(isinstance(part, (inspection.StrType, inspection.AnyType)) for part in parts),
            any(isinstance(part, inspection.NoneType) for part in parts),
        )
    return columns


def _text(values: Any) -> bytes:
    return values if isinstance(values, bytes) else msgspec.json.encode(values, enc_hook=repr)
