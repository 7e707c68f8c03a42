"""Ends what is left of a local Ray when the process that started it is gone, and removes its folder.

A program of its own, run as `python -I -S reaper.py FOLDER PID`: it imports nothing but the standard
library. It waits for its standard input to close, which the operating system does when the parent dies,
however it dies; and looks twice a second whether it has another parent, as a fork of its parent may hold
the other end open. Measured with Ray 2.60: after a `kill -9` of the driver two agents live on for a minute.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE = 1.0
"""Seconds that Ray's processes get to end by themselves when their parent died."""
ROUNDS = 20


def main(folder: Path, parent: int) -> None:
    """Wait for the parent's goodbye, or its end, then clean up."""
    if not said_goodbye(parent):
        time.sleep(GRACE)
    for _ in range(ROUNDS):
        left = processes_of(folder) - {os.getpid(), parent}
        if not left:
            break
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def said_goodbye(parent: int) -> bool:
    """Wait; True when the parent has stopped Ray itself, False when it is gone."""
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable:
            return bool(os.read(sys.stdin.fileno(), 1))
    return False


def processes_of(folder: Path) -> set[int]:
    """Processes that have files of this folder open, or name it in their command line.

    Their environment would not do: what the user's program starts inherits that, too. Empty where there
    is no `/proc` (macOS): Ray's own reaper has to do there.
    """
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "cmdline").read_bytes() or _has_open(entry, folder):
                found.add(int(entry.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def _has_open(entry: Path, folder: Path) -> bool:
    prefix = f"{folder}/"
    for link in (entry / "fd").iterdir():
        try:
            if str(link.readlink()).startswith(prefix):
                return True
        except OSError:
            continue  # closed meanwhile
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
