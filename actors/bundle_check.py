"""Imports a workflow from its unpacked bundle, in a process of its own: what was left out is found at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from headrace.actors.bundle import Bundle, cache_folder, unpack
from headrace.actors.bundle_sweep import hold, sweep
from headrace.actors.loading import WorkflowImportError, import_workflow
from headrace.actors.spec import CodeRef
from headrace.workflows.errors import HeadraceError

WITHIN: Final = 120.0
"""Seconds that importing the user's module may take."""
_HINT: Final = (
    "It was imported from the bundle alone, as the processes of the cluster do. A module that is missing there lies"
    " outside the folder (say --working-dir FOLDER), or is left out by .gitignore (take it in by a line !NAME in"
    " .headraceignore)."
)


def check_bundle(bundle: Bundle, code: CodeRef) -> None:
    """Import the workflow as the processes of a cluster will.

    Args:
        bundle: The code.
        code: Of the bundle.

    Raises:
        WorkflowImportError: It can't be imported from the bundle, though it can here.
        BundleError: There is no place to unpack it.
    """
    cache = cache_folder()
    folder = cache / bundle.version
    while (held := hold(folder)) is None:
        unpack(bundle.archive, bundle.version, cache)
        sweep(cache)
    try:
        _import_elsewhere(folder, code)
    finally:
        os.close(held)


def _import_elsewhere(folder: Path, code: CodeRef) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "headrace.actors.bundle_check",
        str(folder / code.folder),
        code.module,
        code.attr,
    ]
    try:
        ran = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=WITHIN, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WorkflowImportError(f"{code.module} takes more than {WITHIN:.0f} s to import.") from error
    if ran.returncode:
        raise WorkflowImportError(f"{ran.stderr.strip()}\n{_HINT}")


def main(folder: str, module: str, attr: str) -> int:
    """The child: imports, and says on standard error what is wrong."""
    try:
        import_workflow(CodeRef(folder=str(Path(folder)), module=module, attr=attr, version="")).compile()
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
