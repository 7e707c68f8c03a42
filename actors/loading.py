"""Finds and imports the user's workflow by name, in the same way in every process."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Final

from headrace.actors.spec import CodeRef
from headrace.workflows.errors import HeadraceError
from headrace.workflows.workflow import Workflow

DEFAULT_ATTRIBUTE: Final = "workflow"
_PACKAGE = Path(__file__).parent.parent
_OURS = tuple((_PACKAGE / name).resolve() for name in (".", "actors", "gateway", "sources", "workflows"))


class WorkflowImportError(HeadraceError):
    """The user's module can't be imported, or the workflow isn't in it.

    Attributes:
        traceback: Frames of the user's own code, without Python's and Headrace's; empty if there are none.
    """

    def __init__(self, sentence: str, traceback: str = "") -> None:
        super().__init__(f"{sentence}\n{traceback}".rstrip())
        self.sentence = sentence
        self.traceback = traceback

    def __reduce__(self) -> tuple[type[WorkflowImportError], tuple[str, str]]:
        return type(self), (self.sentence, self.traceback)


def load_workflow(target: str, folder: str | Path = ".") -> tuple[CodeRef, Workflow]:
    """Import a workflow as the user names it.

    Args:
        target: `path/to/file.py`, `path/to/file.py:name` or `package.module:name`; without a name: `workflow`.
        folder: Relative files, and modules, are looked for here.

    Returns:
        Where it is, for other processes, and the workflow itself.

    Raises:
        WorkflowImportError: No such file, it fails to import, or has no such workflow.
    """
    ref = _locate(target, Path(folder).resolve())
    return ref, import_workflow(ref)


def import_workflow(ref: CodeRef) -> Workflow:
    """Import the workflow that `ref` names; a module that is imported already is not run again.

    Raises:
        WorkflowImportError: It fails to import, another module has its name, or it has no such workflow.
    """
    module = _import(ref)
    found = getattr(module, ref.attr, None)
    if isinstance(found, Workflow):
        return found
    place = getattr(module, "__file__", None) or ref.module
    others = [name for name, value in vars(module).items() if isinstance(value, Workflow)]
    if found is not None:
        problem = f"`{ref.attr}` in {place} is a {type(found).__name__}, not a Workflow."
    else:
        problem = f"{place} has no `{ref.attr}`."
    if others:
        cure = f"It has {', '.join(f'`{name}`' for name in others)}: name it, as in {Path(place).name}:{others[0]}"
    else:
        cure = f'Make one at the top level of the module: {ref.attr} = Workflow("name")'
    raise WorkflowImportError(f"{problem} {cure}")


def user_traceback(error: BaseException, folder: str | Path) -> str:
    """The frames of `error` that lie in `folder` (but not in installed packages), and what was raised.

    Frames of Python, of libraries and of Headrace are left out, so that the first line read is the user's.
    """
    root = str(Path(folder).resolve())
    summary = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in summary.stack if is_users(frame.filename, root)]
    lines = traceback.format_list(frames) + list(summary.format_exception_only())
    return "".join(lines).rstrip()


def is_users(filename: str, root: str) -> bool:
    """Whether a file is the user's: it lies in `root`, and belongs to no installed package and not to Headrace."""
    path = Path(filename).resolve()
    if "site-packages" in path.parts or not path.is_file():
        return False
    return path.is_relative_to(root) and not any(path.is_relative_to(ours) for ours in _OURS)


def _locate(target: str, folder: Path) -> CodeRef:
    name, _, attr = target.partition(":")
    if name.endswith(".ipynb"):
        raise WorkflowImportError(
            f"{name} is a notebook: other processes can't import what it defines. Save the workflow to a file"
            f" (%%writefile flow.py, or jupyter nbconvert --to script {name}) and name that."
        )
    if name.endswith(".py") or "/" in name:
        file = (folder / name).resolve()
        if not file.is_file():
            raise WorkflowImportError(f"There is no file {file}.")
        module, folder = _module_of(file)
        return CodeRef(folder=str(folder), module=module, attr=attr or DEFAULT_ATTRIBUTE, version=_version([file]))
    file = folder.joinpath(*name.split(".")).with_suffix(".py")
    files = [file] if file.is_file() else sorted(folder.joinpath(*name.split(".")).glob("*.py"))
    return CodeRef(folder=str(folder), module=name, attr=attr or DEFAULT_ATTRIBUTE, version=_version(files))


def _module_of(file: Path) -> tuple[str, Path]:
    """Module name and folder to import it from: a file in a package is imported as part of that package."""
    names = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        names.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(names)), folder


def _version(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _import(ref: CodeRef) -> ModuleType:
    if ref.folder not in sys.path:
        # First, as Python itself does for a script: the user's files win over installed ones of that name.
        sys.path.insert(0, ref.folder)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(ref.module)
    except ModuleNotFoundError as error:
        if error.name is not None and (ref.module == error.name or ref.module.startswith(f"{error.name}.")):
            raise WorkflowImportError(f"There is no module {ref.module} in {ref.folder}.") from None
        raise _failed(ref, error) from error
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a module may well call sys.exit(): that must end no process of ours
        raise _failed(ref, error) from error
    _check_file(ref, module)
    return module


def _failed(ref: CodeRef, error: BaseException) -> WorkflowImportError:
    return WorkflowImportError(f"{ref.module} fails to import.", user_traceback(error, ref.folder))


def _check_file(ref: CodeRef, module: ModuleType) -> None:
    expected = Path(ref.folder).joinpath(*ref.module.split("."))
    found = getattr(module, "__file__", None)
    if found is None or not expected.with_suffix(".py").is_file():
        return
    if Path(found).resolve() != expected.with_suffix(".py").resolve():
        raise WorkflowImportError(
            f"{expected.with_suffix('.py')} can't be imported: a module {ref.module} is loaded already, from {found}. "
            "Rename your file."
        )
