"""The folder `.headrace` of a project: caches, logs, and a file for each workflow that runs from here."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.exits import UsageError

FOLDER: Final = ".headrace"


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workflow runs: written by `dev` and `run`, so that `status` and `stop` need no addresses."""

    workflow: str
    target: str
    pid: int
    host: str
    redis_url: str
    kafka: str | None = None
    started: float
    """Seconds since 1970 UTC."""

    @property
    def alive(self) -> bool:
        """Whether its process still lives; one of another host counts as alive."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class Project:
    """A project's folder `.headrace`.

    Args:
        root: Folder of the project: where the command is typed.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER

    @property
    def cache(self) -> Path:
        """What is fetched once: programs of brokers."""
        return self.folder / "cache"

    def prepare(self) -> None:
        """Make the folder, out of sight of git."""
        self.folder.mkdir(exist_ok=True)
        ignored = self.folder / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")

    def log(self, workflow: str) -> Path:
        """File with what the processes of a workflow write."""
        folder = self.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{workflow}.log"

    def note(self, run: RunFile) -> None:
        """Write down where a workflow runs; readable by this user only, as a URL may hold a password."""
        path = self._path(run.workflow)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(msgspec.json.encode(run))
        fresh.replace(path)

    def forget(self, workflow: str) -> None:
        """It runs no more; idempotent."""
        self._path(workflow).unlink(missing_ok=True)

    def running(self) -> list[RunFile]:
        """What runs from here, by name; files that a killed process has left are passed over."""
        found = [self._read(path) for path in sorted((self.folder / "run").glob("*.json"))]
        return [run for run in found if run is not None and run.alive]

    def refuse_second(self, workflow: str) -> None:
        """Make sure that a workflow does not run from here already.

        Raises:
            UsageError: It does.
        """
        for run in self.running():
            if run.workflow == workflow:
                raise UsageError(
                    f"{workflow} is running from this folder already (process {run.pid})."
                    f" Stop it first: headrace stop {workflow}"
                )

    def _path(self, workflow: str) -> Path:
        return self.folder / "run" / f"{workflow}.json"

    def _read(self, path: Path) -> RunFile | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=RunFile)
        except (OSError, msgspec.DecodeError):
            return None  # it has just ended, or another version wrote it
