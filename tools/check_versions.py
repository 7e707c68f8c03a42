"""What can be said of Python versions that are not at hand: types, and whether all that is needed can be had.

For each of them mypy and pyright check the package as that version would read it, and pip resolves every dependency and
extra to files that need no compiler. Takes some three minutes: `make versions`.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from typing import Final

from check_types import MYPY, PYRIGHT, ROOT, check, run, tracked_files

VERSIONS: Final = ("3.12", "3.13")


def main() -> int:
    """Run all of it; 0 when everything holds."""
    tracked = len(tracked_files())
    held = []
    for version in VERSIONS:
        mypy = (*MYPY, "--python-version", version, "--cache-dir", str(ROOT / ".mypy_cache" / f"for-{version}"))
        pyright = (*PYRIGHT, "--pythonversion", version)
        held += [
            check(f"mypy, as Python {version}", mypy, r"(?:no issues found in|checked) (\d+) source file", tracked),
            check(f"pyright, as Python {version}", pyright, r"Total files checked: (\d+)", tracked),
            resolves(version, requirements()),
        ]
    return 0 if all(held) else 1


def requirements() -> list[str]:
    """All that the project names, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [row for rows in project["optional-dependencies"].values() for row in rows]
    return sorted({*project["dependencies"], *extras})


def resolves(version: str, wanted: list[str]) -> bool:
    """Whether pip finds built distributions of everything for that version; nothing is installed."""
    with tempfile.TemporaryDirectory(prefix="headrace-versions-") as folder:
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--target", folder)
        ran = run((*pip, "--only-binary=:all:", "--python-version", version, *wanted), ROOT)
    if ran.returncode:
        print(f"Python {version}: not everything can be had\n{ran.stdout}{ran.stderr}")
        return False
    print(f"Python {version}: {len(wanted)} requirements and what they need are there, built")
    return True


if __name__ == "__main__":
    sys.exit(main())
