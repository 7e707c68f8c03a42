"""Files in which a process notes how far its calls are, and in which its successors read what it died of.

They lie in a folder of this machine, one for each process, and are mapped into its memory: what it wrote is there when
it is not. A record lock that ends with the process says whether it lives.
"""

from __future__ import annotations

import faulthandler
import fcntl
import mmap
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.workflows.calls import Call
from headrace.workflows.progress import INDEX_BITS, LANES
from headrace.workflows.suspicion import Where, roots_of

_WORD: Final = 8
_LANES_BYTES: Final = LANES * _WORD
_HEADER: Final = 2
"""Words before the lanes: whether a call is under way, and how long its table is."""
_TABLE: Final = _LANES_BYTES + mmap.PAGESIZE
_SLOT_BYTES: Final = 2 * mmap.PAGESIZE
_SLOT_WORDS: Final = 4
_TEXT: Final = _SLOT_WORDS * _WORD
_EMPTY: Final = bytes(_LANES_BYTES)
_LOCK, _TIMED, _TRACE = "lock", "timed", "trace"
_HELD: Final = ".held"
_encoder: Final = msgspec.msgpack.Encoder()
_where: Final = msgspec.msgpack.Decoder(Where)
_table: Final = msgspec.msgpack.Decoder(tuple[int, list[str], list[int], list[int | str]])


@dataclass(frozen=True, slots=True)
class Death:
    """What a process was at when it ended."""

    where: Where
    overtime: float = 0.0
    """Its `timeout=` in seconds, if it was ended for that."""
    trace: str = ""


class Slot:
    """One event that a node has. Words: since when, how long it may, since when it is condemned, the text's length."""

    def __init__(self, path: Path) -> None:
        self._memory = _mapped(path, _SLOT_BYTES)
        self._words = memoryview(self._memory).cast("q")

    def enter(self, where: Where | None, limit: int = 0) -> None:
        """A node has it from now on.

        Args:
            where: None: it is a batch, the marks say which events.
            limit: Nanoseconds that it may take; 0: any.
        """
        text = b"" if where is None else _encoder.encode(where)
        if len(text) > _SLOT_BYTES - _TEXT:
            text = b""  # an id of several kilobytes: the marks have to do
        self._memory[_TEXT : _TEXT + len(text)] = text
        words = self._words
        words[1], words[2], words[3] = limit, 0, len(text)
        words[0] = time.monotonic_ns()

    def leave(self) -> None:
        """The node has it no more."""
        self._words[0] = 0

    @property
    def since(self) -> int:
        """Monotonic nanoseconds (the same clock for all processes of a machine); 0: no node has anything."""
        return self._words[0]

    @property
    def limit(self) -> int:
        """Nanoseconds that it may take; 0: any."""
        return self._words[1]

    def condemn(self, since: int) -> None:
        """The process is about to be ended, for what is there since then."""
        self._words[2] = since

    def condemned(self, *, alive: bool, trace: str) -> bool:
        """Whether it was there for too long: its process says so, or Python's second watchdog, or it still is."""
        over = self.limit > 0 and alive and time.monotonic_ns() - self.since > self.limit
        return bool(self.since) and (self._words[2] == self.since or trace.startswith("Timeout (") or over)

    def where(self) -> Where | None:
        """What is there, if that is known."""
        text = bytes(self._memory[_TEXT : _TEXT + self._words[3]])
        return _where.decode(text) if text else None


class Cell:
    """One call: which of its events nodes have, and whose events they are."""

    def __init__(self, path: Path) -> None:
        self._memory = _mapped(path, _TABLE)
        words = memoryview(self._memory).cast("q")
        self._words, self.lanes = words[:_HEADER], words[_HEADER : _HEADER + LANES]
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.slot = Slot(path.with_suffix(".slot"))

    def begin(self, call: Call) -> None:
        """A call begins."""
        table = _encoder.encode((call.unit, call.origins, call.origin_of, call.offsets))
        os.pwrite(self._file, table, _TABLE)
        self._words[1] = len(table)
        self._words[0] = 1

    def clear(self) -> None:
        """No event is at a node."""
        self._memory[_HEADER * _WORD : _HEADER * _WORD + _LANES_BYTES] = _EMPTY

    def end(self) -> None:
        """The call is done."""
        self._words[0] = 0
        self.slot.leave()
        self.clear()

    def left(self) -> Iterator[Where]:
        """Events that nodes had."""
        marks = [mark for mark in self.lanes if mark] if self._words[0] else []
        if marks:
            unit, origins, origin_of, offsets = _table.decode(os.pread(self._file, self._words[1], _TABLE))
            roots = roots_of(origins, origin_of, offsets)
            for root in dict.fromkeys(roots[mark & ((1 << INDEX_BITS) - 1)] for mark in marks):
                yield Where(unit, root)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class ProcessFiles:
    """The files of this process.

    Args:
        folder: Where those of all processes of the workflow are.
        role: `node/1/0`.
        incarnation: Of this process.
    """

    def __init__(self, folder: Path, role: str, incarnation: int) -> None:
        self.path = folder / f"{_name_of(role)}.{incarnation}"
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.timed = Slot(self.path / _TIMED)
        self.trace: Any = (self.path / _TRACE).open("wb", buffering=0)
        self._cells = self._held = 0

    def cell(self) -> Cell:
        """Another cell, for a call that runs beside others."""
        self._cells += 1
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # old files of this folder may be cleared away
        return Cell(self.path / f"{self._cells}.cell")

    def held(self) -> Slot:
        """Another slot, for an event that a node goes on with while its call has ended."""
        self._held += 1
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # as above
        return Slot(self.path / f"{self._held}{_HELD}")

    def report_fatal_errors(self) -> None:
        """What Python can still say when a signal ends it goes to the file `trace`."""
        faulthandler.enable(self.trace, all_threads=False)

    def remove(self) -> None:
        """The process ends as it should: nothing is to be said of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def take_over(folder: Path, role: str, incarnation: int) -> list[Death]:
    """What the processes died of that are no more, or that this one replaces; each of them is told to one caller.

    Args:
        folder: Where the files of all processes of the workflow are.
        role: Of this process.
        incarnation: Of this process: those of the role before it have been given up, whether they live or not.
    """
    deaths: list[Death] = []
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        name, _, number = path.name.rpartition(".")
        if not number.isdecimal() or (name == _name_of(role) and int(number) >= incarnation):
            continue
        alive = _lives(path)
        if alive and name != _name_of(role):
            continue
        taken = path.with_name(f"{path.name}.taken")
        try:
            path.rename(taken)
        except OSError:
            continue  # somebody else has it
        with suppress(OSError, ValueError, IndexError):  # files that were cut short: it died while it made them
            deaths += _deaths(taken, alive=alive)
        shutil.rmtree(taken, ignore_errors=True)
    return deaths


def _deaths(path: Path, *, alive: bool) -> list[Death]:
    trace = (path / _TRACE).read_text(errors="replace")
    timed = Slot(path / _TIMED)
    condemned = timed.condemned(alive=alive, trace=trace)
    if timed.since and (where := timed.where()) is not None:
        return [Death(where, timed.limit / 1e9 if condemned else 0.0, trace)]
    slots = [Slot(file) for file in path.glob(f"*{_HELD}")]
    held = [slot.where() for slot in slots if slot.since]
    cells = [Cell(file) for file in path.glob("*.cell")]
    try:
        alone = [where for cell in cells if cell.slot.since and (where := cell.slot.where()) is not None]
        had = alone or [where for cell in cells for where in cell.left()]
        return [Death(where, trace=trace) for where in (*had, *held) if where is not None]
    finally:
        for cell in cells:
            cell.close()


def _lives(path: Path) -> bool:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _name_of(role: str) -> str:
    return role.replace("/", "-")


def _mapped(path: Path, size: int) -> mmap.mmap:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size < size:
            os.posix_fallocate(file, 0, size)  # memory of a file that has no room on its disk kills who writes to it
        return mmap.mmap(file, size)
    finally:
        os.close(file)
