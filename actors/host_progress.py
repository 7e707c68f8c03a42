"""How far a process is in its calls, for its successors on this machine; and what those before it died of."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from headrace.actors.death_book import CAREFUL, DeathBook, DeathPage
from headrace.actors.overtime import Overtime
from headrace.actors.progress_files import Cell, ProcessFiles, Slot, take_over
from headrace.actors.spec import RoleSpec
from headrace.actors.suspects import HELD, Suspects
from headrace.workflows.calls import Call
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.progress import Progress, Seat
from headrace.workflows.slow import StillRuns
from headrace.workflows.suspicion import Place, Suspect, Where, roots_of, verdict, where_of

log = structlog.get_logger(__name__)

_NANO: Final = 1_000_000_000
MOST_HELD: Final = 1_000
"""Events that nodes go on with by themselves and that are noted, at 8 KB each."""
_ANOTHER: Final = 1_000
"""Milliseconds until a suspect asks again whether it is alone."""


class HostProgress(Progress):
    """That of one process with a role.

    Args:
        folder: For this workflow on this machine.
        role: `worker/0`, `node/1/0`.
        incarnation: Of this process.
        version: Of the code.
        book: Of deaths, for other machines; None: there is none.
        end: For tests; by default ends the process when a node takes too long.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        incarnation: int,
        version: str,
        *,
        book: DeathBook | None = None,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__()
        self._suspects = Suspects(folder / "suspects", version)
        self._suspects.blame(take_over(folder / "processes", role, incarnation))
        self._files = ProcessFiles(folder / "processes", role, incarnation)
        self._overtime = Overtime(self._files.timed, self._files.trace, end=end)
        self._book = book
        self._free: list[Cell] = []
        self._held: dict[Where, bool] = {}
        """What nodes go on with while their calls have ended, and whether it is suspected."""
        self._had: dict[Seat, Where] = {}
        """Suspects at nodes, by their calls."""
        self._slots: list[Slot] = []
        """Free ones, for such."""
        self._said = ""

    def start(self) -> None:
        """Report fatal errors where the successor finds them, and watch deadlines."""
        self._files.report_fatal_errors()
        self._overtime.start()

    def begin(self, call: Call) -> Seat:
        """A call begins: in the cell of one that has ended, or a new one."""
        try:
            cell = self._free.pop() if self._free else self._files.cell()
            cell.begin(call)
            known = self._suspects.look()
            suspects = self._among(call, known) if known else {}
            page = self._book.page(call) if self._book is not None and call.falls >= CAREFUL else None
            return (
                _HostSeat(self, call, cell, suspects)
                if page is None
                else _CarefulSeat(self, call, cell, suspects, page)
            )
        except OSError as error:  # a full disk: events go on, and nobody would know which one killed us
            self._trouble(error)
            return super().begin(call)

    def timed(self, process: Callable[..., Any], timeout: timedelta, unit: int) -> Callable[..., Any]:
        """The `process` of a node that is not async: this process ends if it takes longer."""
        slot, limit = self._files.timed, int(timeout.total_seconds() * _NANO)
        self._overtime.limit(timeout.total_seconds())

        def process_timed(subject: Any, ctx: Any) -> Any:
            slot.enter(_one(unit, subject, ctx), limit)
            try:
                return process(subject, ctx)
            finally:
                slot.leave()

        return process_timed

    def hold(self, unit: int, event: Event[Any], ctx: Context[Any, Any]) -> Callable[[], None]:
        """A node goes on with an event: whoever comes after this process is to know, should it end meanwhile."""
        where = where_of(unit, event, ctx)
        suspected = (where.unit, where.root) in self._suspects.look()
        if len(self._held) >= MOST_HELD and not suspected:
            return _nothing
        try:
            slot = self._slots.pop() if self._slots else self._files.held()
        except OSError as error:
            self._trouble(error)
            return _nothing
        slot.enter(where if suspected else Where(where.unit, where.root))
        self._held[where] = suspected

        def release() -> None:
            slot.leave()
            self._slots.append(slot)
            self._held.pop(where, None)

        return release

    def is_alone(self, seat: Seat, where: Where) -> bool:
        """No other suspect is at a node here: of two, nobody would know which one it was."""
        others = [held for held, suspected in self._held.items() if suspected]
        others += [had for other, had in self._had.items() if other is not seat]
        return all(other == where for other in others)

    def has(self, seat: Seat, where: Where | None) -> None:
        """A call has a suspect at a node; None: no more."""
        if where is None:
            self._had.pop(seat, None)
        else:
            self._had[seat] = where

    def _goes_on(self, suspect: Suspect) -> bool:
        return any((held.unit, held.root) == (suspect.unit, suspect.root) for held in self._held)

    def close(self) -> None:
        """The process ends as it should."""
        self._overtime.stop()
        self._files.remove()

    def _among(self, call: Call, known: Mapping[tuple[int, str], Suspect]) -> dict[int, Suspect]:
        """The suspects among a call's events, by index."""
        found: dict[int, Suspect] = {}
        for index, root in enumerate(roots_of(call.origins, call.origin_of, call.offsets)):
            suspect = known.get((call.unit, root))
            if suspect is None:
                continue
            if suspect.settled is not None and self._is_new_try(suspect, call):
                self._suspects.forget(suspect)
            else:
                found[index] = suspect
        return found

    def _is_new_try(self, suspect: Suspect, call: Call) -> bool:
        """It has failed, and its worker knows: it was sent back, or is tried again. Otherwise the call is repeated."""
        assert suspect.settled is not None
        owner, number = suspect.settled
        return time.time() - suspect.changed > HELD or (owner == call.owner and number != call.number)

    def done(self, call: Call, cell: Cell, suspects: Mapping[int, Suspect], failed: set[tuple[int, str]]) -> None:
        """A call has ended: of its suspects those that failed are remembered for a while, in case it is repeated."""
        cell.end()
        self._free.append(cell)
        try:
            for suspect in {id(suspect): suspect for suspect in suspects.values()}.values():
                if self._goes_on(suspect):
                    continue
                if (suspect.unit, suspect.root) in failed:
                    suspect.settled = call.owner, call.number
                    self._suspects.put(suspect)
                else:
                    self._suspects.forget(suspect)
        except OSError as error:
            self._trouble(error)

    def _trouble(self, error: OSError) -> None:
        if str(error) != self._said:
            self._said = str(error)
            log.warning("no_progress_files", reason=self._said)


class _HostSeat(Seat):
    def __init__(self, progress: HostProgress, call: Call, cell: Cell, suspects: dict[int, Suspect]) -> None:
        super().__init__(cell.lanes, suspects)
        self._progress = progress
        self._call = call
        self._cell = cell
        self._suspects = suspects
        self._by_root = {suspect.root: suspect for suspect in suspects.values()}
        self._failed: set[tuple[int, str]] = set()

    def enter(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        where = where_of(self._call.unit, event, ctx)
        suspect = self._by_root.get(where.root)
        if suspect is not None and (error := suspect.verdict(where.key)) is not None:
            self._failed.add((where.unit, where.root))
            log.warning("suspect_failed", event_id=event.id, key=event.key, reason=error.reason_code)
            raise error
        if suspect is not None and not self._progress.is_alone(self, where):
            self._suspects = {index: row for index, row in self._suspects.items() if row is not suspect}
            raise StillRuns(_ANOTHER)
        self._progress.has(self, None if suspect is None else where)
        self._cell.slot.enter(where)

    def clear(self) -> None:
        self._cell.clear()

    def end(self) -> None:
        self._progress.has(self, None)
        self._progress.done(self._call, self._cell, self._suspects, self._failed)


class _CarefulSeat(_HostSeat):
    """All events go alone, each noted where other machines find it: nobody here knows which of them is deadly."""

    def __init__(
        self, progress: HostProgress, call: Call, cell: Cell, suspects: dict[int, Suspect], page: DeathPage
    ) -> None:
        super().__init__(progress, call, cell, suspects)
        self.suspects = range(len(call.runs))
        self.guarding = True
        self._page = page
        log.warning("careful", partition=call.partition, events=len(call.runs), deaths=call.falls)

    def enter(self, event: Event[Any], ctx: Context[Any, Any]) -> None:
        super().enter(event, ctx)
        where = where_of(self._call.unit, event, ctx)
        deaths = self._page.deaths(where)
        error = verdict(Place(deaths), 1) if deaths else None  # one of those before it was most likely its own, too
        if error is not None:
            log.warning("suspect_failed", event_id=event.id, key=event.key, reason=error.reason_code)
            raise error
        self._page.enter(where)

    def end(self) -> None:
        self._page.end()
        super().end()


def _nothing() -> None: ...


def progress_of(spec: RoleSpec) -> Progress:
    """That of a process with this role; one of no deployment in a store (a test's) has no successor to write for."""
    deployment = spec.deployment
    if not deployment.incarnation:
        return Progress()
    try:
        folder = _own_folder() / "progress" / f"{deployment.workflow}-{deployment.incarnation}"
        book = DeathBook(deployment.redis_url, deployment.workflow, deployment.code.version)
        progress = HostProgress(folder, spec.role.name, spec.incarnation, deployment.code.version, book=book)
    except OSError as error:
        log.warning("no_progress_files", role=spec.role.name, reason=str(error))
        return Progress()
    progress.start()
    return progress


def _own_folder() -> Path:
    """Of this user, in the folder for temporary files: what it says decides which events fail.

    Raises:
        PermissionError: It is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others")
    return folder


def _one(unit: int, subject: Any, ctx: Any) -> Where | None:
    """Which event a node has; None: a batch of several."""
    if isinstance(subject, Event):
        return where_of(unit, subject, ctx)
    return where_of(unit, subject[0], ctx[0]) if len(subject) == 1 else None
