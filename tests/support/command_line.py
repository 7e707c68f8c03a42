"""The command as a user types it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from brokers import CACHE
from waiting import until

PROGRAM: Final = (sys.executable, "-m", "headrace")


class Headrace:
    """A `headrace` process, and what it has printed so far.

    Args:
        folder: Where it is typed.
        arguments: What is typed.
        program: What it is called by.
        environment: Variables beside this process's own, of which those of Headrace don't count.
    """

    def __init__(
        self, folder: Path, *arguments: str, program: Sequence[str | Path] = PROGRAM,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
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


Start: TypeAlias = Callable[..., Headrace]
"""Starts `headrace` with these arguments."""


@contextmanager
def commands_in(folder: Path, flow: str) -> Iterator[Start]:
    """Starts commands in a folder with this text as `flow.py`, and ends those that still run."""
    started: list[Headrace] = []
    (folder / ".headrace").mkdir()
    (folder / ".headrace" / "cache").symlink_to(CACHE)
    (folder / "flow.py").write_text(flow)

    def start(*arguments: str) -> Headrace:
        started.append(Headrace(folder, *arguments))
        return started[-1]

    yield start
    for headrace in started:
        headrace.process.kill()
        headrace.process.wait()


def said(start: Start, *arguments: str, code: int = 0) -> str:
    """What a command says, which ends with this code."""
    ran = start(*arguments)
    assert ran.ends() == code, ran.text
    return ran.text
