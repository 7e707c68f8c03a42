"""`settings`: every setting with its value and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from headrace.cli.screen import Screen
from headrace.settings import Loaded, shown
from headrace.settings.model import FIELDS, depth_of, dotted

_NONE = "-"


def show_settings(loaded: Loaded, screen: Screen, *, as_json: bool) -> None:
    """Print all settings; secrets are hidden."""
    rows = list(_rows(loaded))
    if as_json:
        screen.json({
            "profile": loaded.profile,
            "files": [str(path) for path in loaded.files],
            "settings": {
                dotted(path): {"value": value, "origin": str(loaded.origin(path))} for path, value in rows
            },
            "notes": loaded.notes,
        })  # fmt: skip
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("setting", "value", "origin"):
        table.add_column(name, overflow="fold")
    for path, value in rows:
        origin = loaded.origin(path)
        style = "dim" if origin.kind == "default" else ""
        table.add_row(Text(dotted(path), style), Text(_text(value), style), Text(str(origin), style))
    screen.show(table)
    screen.explain("", Text(_read_from(loaded), "dim"))
    for note in loaded.notes:
        screen.say(note, "yellow")


def _rows(loaded: Loaded) -> Iterator[tuple[tuple[str, ...], Any]]:
    for field in FIELDS:
        value = getattr(loaded.settings, field)
        leaves = list(_leaves((field,), value, depth_of(field)))
        yield from leaves or [((field,), None)]


def _leaves(path: tuple[str, ...], value: Any, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    if depth == 0:
        yield path, shown(path, value)
        return
    for name, inner in value.items():
        yield from _leaves((*path, name), inner, depth - 1)


def _text(value: Any) -> str:
    if value is None or value == "":
        return _NONE
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _read_from(loaded: Loaded) -> str:
    files = ", ".join(_short(path) for path in loaded.files) or "no file"
    profile = f"; profile {loaded.profile}" if loaded.profile else ""
    return f"Read: {files}{profile}. Stronger first: option, environment, headrace.toml, pyproject.toml, default."


def _short(path: Path) -> str:
    return path.name if path.parent == Path.cwd() else str(path)
