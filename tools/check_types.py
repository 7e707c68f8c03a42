"""Type checks that can't pass by looking at too little.

The package's subfolders are symbolic links; a checker that doesn't follow one reports success for what
is left. So this runs mypy (strict) and pyright and compares the number of files that each has checked
with what git tracks; then it plants a type error in every subpackage of a copy and expects mypy to find
each of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LINKED: Final = ("workflows", "sources", "actors", "gateway")
"""Folders at the root that are subpackages of `headrace` through links."""
ROOTS: Final = ("src/headrace", *LINKED)
MYPY: Final = (sys.executable, "-m", "mypy", "--strict", "-p", "headrace")
PYRIGHT: Final = (sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--stats")
PLANTED: Final = '\n_planted: int = "no number"\n'


def main() -> int:
    """Run all of it; 0 when everything holds."""
    tracked = len(tracked_files())
    checks = (
        check("mypy", MYPY, r"(?:no issues found in|checked) (\d+) source file", tracked),
        check("pyright", PYRIGHT, r"Total files checked: (\d+)", tracked),
        planted_errors_are_found(),
    )
    return 0 if all(checks) else 1


def tracked_files() -> list[str]:
    """The package's Python files that git tracks and that still exist, by real path."""
    listed = run(("git", "ls-files", "-z", "--", *ROOTS), ROOT).stdout
    return [path for path in listed.split("\0") if path.endswith(".py") and (ROOT / path).is_file()]


def check(name: str, command: Sequence[str], count: str, tracked: int) -> bool:
    """Whether the checker is content and has seen all files."""
    ran = run(command, ROOT)
    found = re.search(count, ran.stdout)
    checked = int(found[1]) if found else 0
    if ran.returncode != 0:
        print(ran.stdout + ran.stderr)
        return False
    if checked < tracked:
        print(f"{name} checked {checked} files, but git tracks {tracked}: it does not see the whole package")
        return False
    print(f"{name}: {checked} files checked, {tracked} tracked, no errors")
    return True


def planted_errors_are_found() -> bool:
    """Whether mypy finds one planted error in each subpackage of a copy."""
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        copy = Path(folder)
        shutil.copy2(ROOT / "pyproject.toml", copy)
        for root in ROOTS:
            shutil.copytree(ROOT / root, copy / root, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        if (ROOT / ".mypy_cache").is_dir():
            shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
        expected = {plant(copy, root) for root in ROOTS}
        ran = run(MYPY, copy)
    found = {
        module for module in expected if re.search(rf"^{re.escape(module)}:\d+: error: Incompat", ran.stdout, re.M)
    }
    if found != expected:
        print(f"mypy overlooked planted type errors in {', '.join(sorted(expected - found))}\n{ran.stdout}{ran.stderr}")
        return False
    print(f"mypy: finds a planted error in each of {len(expected)} packages")
    return True


def plant(copy: Path, root: str) -> str:
    """Put a type error into a package's first module; returns the name under which mypy reports it."""
    module = copy / root / "__init__.py"
    with module.open("a") as text:
        text.write(PLANTED)
    return f"src/headrace/{root}/__init__.py" if root in LINKED else f"{root}/__init__.py"


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command there and keep what it says."""
    environment = {**os.environ, "NO_COLOR": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
