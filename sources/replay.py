"""Recorded data as a source: files of rows, replayed as they happened, faster, or as fast as they can be taken."""

from __future__ import annotations

import builtins
import copy
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Generic, Self

import msgspec
from typing_extensions import TypeVar

from headrace.sources.custom import CustomSource, Delivery, Split
from headrace.sources.replay_files import SUFFIXES, Format, ReplayFileChanged
from headrace.sources.replay_split import Conversion, Replay
from headrace.workflows.ports import BEGINNING
from headrace.workflows.returns import Fault

D = TypeVar("D")


class ReplaySource(CustomSource[D], Generic[D]):
    """The rows of recorded files: CSV (with a header), JSON lines, Parquet.

    Each row counts exactly once: its place is committed with the states. After the last one the source is closed. A row
    that does not fit the type is a dead letter. CSV has text only, so it is converted to the fields' types; an empty
    cell is None where the field takes it, else it is left out, except in a text field.

    Args:
        path: A file, or a pattern (`days/*.csv`): its files one after the other, by name. Relative ones begin at the
            folder of the Python file that makes the source. Every host that runs a worker must have them.
        type: What a row is: a Struct, a dataclass; fields are named as columns.
        key: Field or function of the data that is the run's key; None in an unkeyed workflow.
        time: Field or function of the data that says when it happened: a datetime (without a zone it is UTC), text in
            ISO 8601, or milliseconds since 1970 as an int. It is the event's time.
        speed: 1.0: as it happened; 60.0: an hour in a minute; None: as fast as it can be taken. Begins anew at the row
            at which a worker begins. Needs `time`.
        format: Default: by the files' ending.
        name: Unique within the workflow; part of event ids and positions.
    """

    kind: ClassVar[str] = "replay"
    brings_keys: ClassVar[bool] = False
    delivery: ClassVar[Delivery] = "exactly-once"

    def __init__(
        self,
        path: str | Path,
        type: builtins.type[D],
        *,
        key: str | Callable[[D], str] | None = None,
        time: str | Callable[[D], datetime] | None = None,
        speed: float | None = None,
        format: Format | None = None,
        name: str = "replay",
    ) -> None:
        super().__init__(type, name=name, key=key)
        written = Path(sys._getframe(1).f_code.co_filename)
        self.path = (written.parent if written.is_file() else Path.cwd()) / path
        self.when = time
        self.speed = speed
        self.format: Format | None = format

    def files(self) -> Sequence[Path]:
        """All files, in the order in which they are read."""
        root = self._root()
        return sorted(found for found in root.glob(str(self.path.relative_to(root))) if found.is_file())

    def open(self, split: str, position: str | None) -> Split[D]:
        """See `CustomSource.open`."""
        files = self.files()
        if not files:
            raise ReplayFileChanged(str(self.path), "can't be found on this host")
        format: Format = self.format or SUFFIXES[files[0].suffix]
        return Replay(self.name, self._root(), files, format, Conversion(self.type, self.when), self.speed, position)

    def _root(self) -> Path:
        parts = self.path.parts
        plain = next((number for number, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
        return Path(*parts[:plain])

    def in_test(self) -> Self:
        """See `CustomSource.in_test`: a test does not wait."""
        made = copy.copy(self)
        made.speed = None
        return made

    def check(self, now: datetime, *, keyed: bool) -> Iterable[Fault]:
        """See `Source.check`."""
        yield from super().check(now, keyed=keyed)
        if self.speed is not None and not self.speed > 0:
            yield Fault("number", f"speed={self.speed} is no speed", "Write 1.0 for as it happened, or leave it out")
        if self.speed is not None and self.when is None:
            yield Fault("time", "has a speed, but no time", "Add time= with the column that says when it happened")
        if isinstance(self.when, str) and self.when not in (fields := _fields(self.type)) and fields:
            choice = ", ".join(map(repr, fields))
            yield Fault("time", f"time={self.when!r} is no field of its data", f"Write one of {choice}")
        yield from self._check_files(now)

    def _check_files(self, now: datetime) -> Iterable[Fault]:
        files = self.files()
        if not files and now != BEGINNING:
            yield Fault(
                "file", f"there is no file {self.path}", "Relative paths begin at the folder of this Python file"
            )
        formats = {self.format or SUFFIXES.get(file.suffix) for file in files}
        if None in formats or len(formats) > 1:
            endings = ", ".join(sorted({file.suffix for file in files}))
            choice = ", ".join(map(repr, sorted(set(SUFFIXES.values()))))
            yield Fault(
                "format", f"the files' endings ({endings}) don't say one format", f"Write format= with one of {choice}"
            )
        if "parquet" in formats and importlib.util.find_spec("pyarrow") is None:
            yield Fault("extra", "Parquet needs pyarrow, which is not installed", 'pip install "headrace[parquet]"')


def _fields(data_type: object) -> list[str]:
    info = msgspec.inspect.type_info(data_type)
    return [field.name for field in getattr(info, "fields", ())]
