"""The suspects of a workflow on this machine: one small file for each, which all its processes read."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from headrace.actors.progress_files import Death
from headrace.workflows.suspicion import Suspect, cause_of

log = structlog.get_logger(__name__)

HELD: Final = 60.0
"""Seconds that an event which has failed is remembered: its commit may be lost with the worker, and it comes again."""
FORGOTTEN: Final = 24 * 3600.0
"""Seconds after which a suspect that never came again is forgotten."""


class Suspects:
    """Those that are known now.

    Args:
        folder: Where their files are.
        version: Of the code that runs: what an event did to another one says nothing.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version
        self._seen = -1
        self._known: dict[tuple[int, str], Suspect] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def look(self) -> dict[tuple[int, str], Suspect]:
        """All, by unit and id of the source's event. Costs a question for the folder's time while nothing changes."""
        try:
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  for each call: half the time of Path's
        except FileNotFoundError:  # old files of the folder for temporary files may be cleared away
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            changed = -1
        if changed != self._seen:
            self._seen = changed
            self._known = dict(self._read())
        return self._known

    def _read(self) -> Iterable[tuple[tuple[int, str], Suspect]]:
        now = time.time()
        for path in self._folder.glob("*.json"):
            try:
                suspect = msgspec.json.decode(path.read_bytes(), type=Suspect)
            except (OSError, msgspec.DecodeError):
                continue  # gone meanwhile, or not ours
            if now - suspect.changed > (HELD if suspect.settled else FORGOTTEN):
                path.unlink(missing_ok=True)
            elif suspect.version == self._version:
                yield (suspect.unit, suspect.root), suspect

    def blame(self, deaths: Iterable[Death]) -> None:
        """Processes have ended with these events."""
        for death in deaths:
            where = death.where
            suspect = self.look().get((where.unit, where.root)) or Suspect(where.unit, where.root, self._version)
            suspect.blame(where.key, death.overtime, death.trace)
            suspect.settled = None
            self.put(suspect)
            log.warning(
                "event_suspected", event_id=where.root, place=where.key or None, overtime=death.overtime or None,
                cause=cause_of(death.trace) or None,
            )  # fmt: skip

    def put(self, suspect: Suspect) -> None:
        """Remember it."""
        suspect.changed = time.time()
        path = self._path(suspect)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(suspect))
        draft.replace(path)
        self._known[suspect.unit, suspect.root] = suspect

    def forget(self, suspect: Suspect) -> None:
        """It has gone through, or it is to be tried anew."""
        self._path(suspect).unlink(missing_ok=True)
        self._known.pop((suspect.unit, suspect.root), None)

    def _path(self, suspect: Suspect) -> Path:
        name = hashlib.sha256(f"{suspect.unit}/{suspect.root}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"
