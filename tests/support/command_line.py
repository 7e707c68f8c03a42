"""The command as a user types it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from waiting import until

PROGRAM: Final = (sys.executable, "-m", "headrace")


class Headrace:
    """A `headrace` process, and what it has printed so far.

    Args:
        folder: Where it is typed.
        arguments: What is typed.
        program: What it is called by.
    """

    def __init__(self, folder: Path, *arguments: str, program: Sequence[str | Path] = PROGRAM) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment | {"PYTHONUNBUFFERED": "1"},
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def says(self, words: str, within: float = 60.0) -> None:
        """Wait until it has printed this."""
        try:
            until(lambda: words in self.text or self.process.poll() is not None, f"it says {words!r}", within=within)
        finally:
            assert words in self.text, f"it does not say {words!r}, but:\n{self.text}"

    def ends(self, within: float = 40.0) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(within)
        self._reader.join(5.0)
        return code

    def family(self) -> list[psutil.Process]:
        """All processes that it has started, and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)
