"""Reads a document's code blocks, and does what they say: files are written, commands run and compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE: Final = re.compile(r'title="([^"]+)"')
RUN: Final = ("headrace check", "headrace graph", "headrace new", "pytest")
"""Commands that are run; others need servers, and are shown only."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str | None
    """The file that it is, or (`append`) that it is added to."""
    append: bool
    text: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Of a console: (command, what it must print)."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(part.partition("\n")[0], part.partition("\n")[2].rstrip()) for part in parts]


def documents() -> list[Path]:
    """All Markdown files for users."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(document: Path) -> list[Block]:
    """Its fenced blocks, from top to bottom."""
    found = []
    for language, info, text in _FENCE.findall(document.read_text()):
        title = _TITLE.search(info)
        found.append(Block(language, title[1] if title else None, "append" in _TITLE.sub("", info).split(), text))
    return found


def follow(document: Path, folder: Path) -> None:
    """Do in `folder` what a reader of the document does.

    Raises:
        AssertionError: Something prints what the document does not say.
    """
    for block in blocks_of(document):
        if block.language in ("python", "csv") and block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            with (folder / block.title).open("a" if block.append else "w") as file:
                file.write(block.text)
        for command, expected in block.commands if block.language == "console" else ():
            if command.startswith(RUN):
                _compare(command, expected, _run(command, folder))


def _run(command: str, folder: Path) -> str:
    program, *arguments = command.split()
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200", "PYTEST_ADDOPTS": ""}
    if program == "pytest":
        arguments = ["-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    ran = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (ran.stdout + ran.stderr).rstrip()


def _compare(command: str, expected: str, printed: str) -> None:
    if command.startswith("pytest"):
        assert re.search(rf"^{re.escape(expected)} in ", printed, re.MULTILINE), f"$ {command}\n{printed}"
    else:
        assert printed == expected, f"$ {command}\n{printed}"
