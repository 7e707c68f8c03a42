"""Checkers accept the programs of the API and refuse each of the wrong graphs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Errors = Callable[..., set[tuple[str, int]]]
PROGRAMS = Path(__file__).parent / "programs"
RIGHT = (
    "temperature.py", "chat.py", "approval.py", "anomaly.py", "returns.py", "own_source.py", "formats.py",
    "failing.py", "joining.py", "composition.py",
)  # fmt: skip
WRONG = {
    "wrong.py": 9, "wrong_returns.py": 7, "wrong_formats.py": 14, "wrong_failing.py": 3, "wrong_joining.py": 7,
    "wrong_composition.py": 6,
}  # fmt: skip
"""Files, and how many of their last lines are wrong."""


def mypy_errors(*files: str) -> set[tuple[str, int]]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", *files]
    done = subprocess.run(command, cwd=PROGRAMS, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(.+?):(\d+): error:", done.stdout, re.MULTILINE)
    return {(Path(file).name, int(line)) for file, line in found}


def pyright_errors(*files: str) -> set[tuple[str, int]]:
    beside = Path(sys.executable).with_name("pyright")
    command = str(beside) if beside.exists() else shutil.which("pyright")
    assert command, "pyright is not installed; it is in the dev dependencies"
    done = subprocess.run(
        [command, "--pythonpath", sys.executable, "--outputjson", *files],
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    rows = json.loads(done.stdout)["generalDiagnostics"]
    return {(Path(row["file"]).name, row["range"]["start"]["line"] + 1) for row in rows if row["severity"] == "error"}


@pytest.mark.parametrize("errors_of", [mypy_errors, pyright_errors])
def test_the_programs_of_the_api_are_accepted(errors_of: Errors) -> None:
    assert errors_of(*RIGHT) == set()


@pytest.mark.parametrize("errors_of", [mypy_errors, pyright_errors])
def test_every_wrong_graph_is_refused(errors_of: Errors) -> None:
    expected = set()
    for file, wrong in WRONG.items():
        last = len((PROGRAMS / file).read_text().splitlines())
        expected |= {(file, line) for line in range(last - wrong + 1, last + 1)}

    assert errors_of(*WRONG) == expected
