"""Imports the user's code again in this process: for `dev --reload`, which looks at a new version before it is run."""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import msgspec

from headrace.actors.loading import is_users, load_workflow
from headrace.actors.spec import CodeRef
from headrace.workflows.workflow import Workflow


def user_files(folder: str | Path) -> list[Path]:
    """Files in `folder` of the modules that are imported now, without installed ones and Headrace's."""
    return sorted({Path(file) for _, file in _user_modules(folder)})


def content_version(folder: str | Path) -> str:
    """Hash of all those files: it changes with a module beside the workflow's, too."""
    digest = hashlib.sha256()
    root = Path(folder).resolve()
    for file in user_files(root):
        if file.is_file():
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def load_again(target: str, folder: str | Path) -> tuple[CodeRef, Workflow]:
    """As `load_workflow`, from the files as they are now; what fails to import leaves the modules as they were.

    Args:
        target: As the user names it.
        folder: Of the project: modules in it are imported anew.

    Raises:
        WorkflowImportError: See `load_workflow`.
    """
    with _put_back_on_failure(folder):
        linecache.checkcache()
        ref, workflow = load_workflow(target)
        return msgspec.structs.replace(ref, version=content_version(ref.folder)), workflow


@contextmanager
def _put_back_on_failure(folder: str | Path) -> Iterator[None]:
    before: dict[str, ModuleType] = {name: sys.modules.pop(name) for name, _ in _user_modules(folder)}
    try:
        yield
    except BaseException:
        for name, _ in _user_modules(folder):
            del sys.modules[name]
        sys.modules.update(before)
        raise


def _user_modules(folder: str | Path) -> list[tuple[str, str]]:
    """Name and file of each imported module of the user's."""
    root = str(Path(folder).resolve())
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(file, str) and is_users(file, root):
            found.append((name, str(Path(file).resolve())))
    return found
