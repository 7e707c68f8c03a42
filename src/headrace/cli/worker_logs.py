"""Gathers what the processes of a local Ray write (user code's prints, log lines) into one file of the project."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

PERIOD: Final = 0.5
_MARKS: Final = (":actor_name:", ":job_id:", ":task_name:")
"""Lines that Ray writes for itself."""
_AT_ONCE: Final = 1 << 20


class WorkerLogs:
    """Copies new lines until it is left. Ray keeps them in a folder of its own, which goes when it stops.

    Args:
        ray_folder: `LocalRay.folder`.
        target: The file; lines are appended.
    """

    def __init__(self, ray_folder: Path, target: Path) -> None:
        self._ray_folder = ray_folder
        self._target = target
        self._read: dict[Path, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-worker-logs", daemon=True)

    def __enter__(self) -> WorkerLogs:
        self._target.touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._ended.wait(PERIOD):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        with self._target.open("a") as target:
            for path in sorted(self._ray_folder.glob("session_*/logs/worker-*")):
                if path.suffix not in (".out", ".err") or path.parent.parent.is_symlink():
                    continue
                for line in self._new_lines(path):
                    if not line.startswith(_MARKS):
                        target.write(line + "\n")

    def _new_lines(self, path: Path) -> list[str]:
        """Whole lines since the last look."""
        try:
            with path.open("rb") as source:
                source.seek(self._read.get(path, 0))
                blob = source.read(_AT_ONCE)
        except FileNotFoundError:
            return []  # Ray has just stopped
        end = blob.rfind(b"\n") + 1 or (len(blob) if len(blob) == _AT_ONCE else 0)
        self._read[path] = self._read.get(path, 0) + end
        return blob[:end].decode(errors="replace").splitlines()
