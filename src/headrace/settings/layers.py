"""Where settings come from: files, environment and flags, each as a layer of single values with their origins.

Nothing is judged here but what can't be read: a layer has what somebody wrote, in the order of precedence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final, Literal, TypeAlias

import msgspec

from headrace.settings.lines import line_of
from headrace.settings.model import FIELDS, PLAIN, Path, depth_of
from headrace.workflows.errors import Problem

PREFIX: Final = "HEADRACE_"
"""Of environment variables: `HEADRACE_WORKERS`, `HEADRACE_KAFKA__SECURITY_PROTOCOL`."""
PROFILE: Final = "HEADRACE_PROFILE"
OWN_FILE: Final = "headrace.toml"
_NESTED: Final = "__"
_PROFILES: Final = "profiles"


class Origin(msgspec.Struct, frozen=True):
    """Where a value comes from."""

    kind: Literal["flag", "environment", "file", "default"]
    name: str = ""
    """The flag, the variable, the file."""
    line: int | None = None
    profile: str | None = None
    """The profile of the file that has it."""

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        text = self.name if self.line is None else f"{self.name}:{self.line}"
        return text if self.profile is None else f"{text} (profile {self.profile})"


class Value(msgspec.Struct, frozen=True):
    """One value as it was written."""

    value: Any
    origin: Origin


Layer: TypeAlias = dict[Path, Value]


class SettingsFile(msgspec.Struct, frozen=True):
    """A file with settings."""

    path: FilePath
    name: str
    """As people are told of it: without its folder where it is the current one."""
    table: dict[str, Any]
    prefix: Path
    """Where its settings begin: `("tool", "headrace")` in `pyproject.toml`."""
    text: str

    @property
    def profiles(self) -> dict[str, Any]:
        """Its profiles, by name."""
        found = self.table.get(_PROFILES, {})
        return found if isinstance(found, dict) else {}

    def origin(self, path: Path, profile: str | None = None) -> Origin:
        """Where in the file a value stands."""
        inner = (_PROFILES, profile) if profile is not None else ()
        line = line_of(self.text, (*self.prefix, *inner, *path))
        return Origin("file", self.name, line, profile)

    def layer(self, profile: str | None = None) -> Layer:
        """What the file says for all, or in one profile."""
        table = self.profiles.get(profile, {}) if profile is not None else self.table
        plain = {name: value for name, value in table.items() if profile is not None or name != _PROFILES}
        return {path: Value(value, self.origin(path, profile)) for path, value in _leaves(plain)}


def settings_files(folder: FilePath) -> tuple[list[SettingsFile], list[Problem]]:
    """Files with settings in `folder` or the nearest folder above that has any: the weaker one first."""
    problems: list[Problem] = []
    for place in (folder, *folder.parents):
        found = [
            file
            for name, prefix in (("pyproject.toml", ("tool", "headrace")), (OWN_FILE, ()))
            if (file := _read(place / name, name if place == folder else str(place / name), prefix, problems))
            is not None
        ]
        if found or problems:
            return found, problems
    return [], problems


def _read(path: FilePath, name: str, prefix: Path, problems: list[Problem]) -> SettingsFile | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(name, "file", "unreadable", f"can't be read: {error}", "Mend it"))
        return None
    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if prefix and "headrace" not in text:
            return None  # somebody else's file, somebody else's mistake
        problems.append(Problem(name, "file", "toml", f"is no TOML: {error}", "Mend it"))
        return None
    for step in prefix:
        table = table.get(step, None) if isinstance(table, dict) else None
    return SettingsFile(path, name, table, prefix, text) if isinstance(table, dict) else None


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """What the environment says; variables that are no settings are passed over, see `misspelled`."""
    layer: Layer = {}
    for variable, text in sorted(environment.items()):
        path = _path_of(variable)
        if path is not None and text:
            layer[path] = Value(text, Origin("environment", variable))
    return layer


def variable_of(path: Path) -> str:
    """The environment variable for a path; a plain `HEADRACE_KAFKA` has the addresses."""
    if len(path) > 1 and depth_of(path[0]) == 1 and path[1] == PLAIN.get(path[0]):
        return PREFIX + path[0].upper()
    return PREFIX + _NESTED.join(part.upper() for part in path)


def _path_of(variable: str) -> Path | None:
    if not variable.startswith(PREFIX):
        return None
    parts = tuple(part.lower() for part in variable.removeprefix(PREFIX).split(_NESTED))
    if parts[0] not in FIELDS or not all(parts):
        return None
    missing = depth_of(parts[0]) - (len(parts) - 1)
    if missing == 1 and parts[0] in PLAIN:
        return (*parts, PLAIN[parts[0]])
    return parts if missing == 0 else None


def flag_layer(flags: Sequence[tuple[str, Path, Any]]) -> Layer:
    """What was typed: flag, path, value; None where it was not typed."""
    return {path: Value(value, Origin("flag", flag)) for flag, path, value in flags if value is not None}


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Single values of a file's table. What has the wrong shape is left whole: `loading` says what is wrong with it."""
    for name, value in table.items():
        yield from _unfold((name,), value, depth_of(name) if name in FIELDS else 0)


def _unfold(path: Path, value: Any, depth: int) -> Iterator[tuple[Path, Any]]:
    if depth == 1 and isinstance(value, str) and path[0] in PLAIN:
        yield (*path, PLAIN[path[0]]), value
    elif depth and isinstance(value, dict):
        for name, inner in value.items():
            yield from _unfold((*path, name), inner, depth - 1)
    else:
        yield path, value
