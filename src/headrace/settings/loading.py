"""Puts the layers together: which value counts, of which type it is, and everything that is wrong at once.

Precedence, strongest first: flags, environment, `headrace.toml`, `[tool.headrace]` of `pyproject.toml`,
defaults. In a file a chosen profile is stronger than the rest of that file. It goes by single values: a table
may have one option from a file and the next one from the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Literal, get_args, get_origin

import msgspec

from headrace.settings.layers import (
    OWN_FILE,
    PREFIX,
    PROFILE,
    Layer,
    Origin,
    SettingsFile,
    Value,
    environment_layer,
    flag_layer,
    settings_files,
)
from headrace.settings.masking import shown
from headrace.settings.model import FIELDS, PLAIN, Path, Settings, depth_of, dotted, type_at
from headrace.workflows.errors import HeadraceError, Problem

_OTHER_VARIABLES = ("HEADRACE_CRASH_AT", "HEADRACE_CRASH_MARKER", "HEADRACE_CACHE", PROFILE)


class SettingsError(HeadraceError):
    """Settings can't be used as they are written.

    Attributes:
        problems: Everything that is wrong, each with its place and cure.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        lines = [f"{problem.where}  {problem.subject}: {problem.message}. {problem.cure}" for problem in problems]
        super().__init__("\n".join(["Settings can't be used:", *lines]))


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, and where each comes from."""

    settings: Settings
    origins: dict[Path, Origin]
    """Of every value that somebody has set; others are defaults."""
    profile: str | None = None
    files: tuple[FilePath, ...] = ()
    """Files that were read, the stronger one first."""
    notes: tuple[str, ...] = ()
    """What looks like a mistake but need not be one."""

    def origin(self, path: Path) -> Origin:
        """Where a value comes from."""
        return self.origins.get(path, Origin("default"))


def load_settings(
    folder: FilePath,
    *,
    flags: Sequence[tuple[str, Path, Any]] = (),
    profile: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """The settings that count in a folder.

    Args:
        folder: Files are looked for here, then in the folders above.
        flags: What was typed: flag, path, value; None where it was not.
        profile: Name of a profile; by default what `HEADRACE_PROFILE` says, else none.
        environment: By default that of this process.

    Raises:
        SettingsError: Something is wrong; names everything that is.
    """
    environment = os.environ if environment is None else environment
    files, problems = settings_files(folder.resolve())
    chosen = profile or environment.get(PROFILE) or None
    problems += _profile_problems(chosen, files, "--profile" if profile else PROFILE)
    problems += _problems_of_other_profiles(chosen, files)
    layers = [layer for file in files for layer in _layers_of(file, chosen)]
    merged: Layer = {}
    for layer in [*layers, environment_layer(environment), flag_layer(flags)]:
        merged |= {path: _typed_as_before(value, merged.get(path)) for path, value in layer.items()}
    values, wrong = _converted(merged)
    if problems or wrong:
        raise SettingsError([*problems, *wrong])
    return Loaded(
        settings=_assembled(values),
        origins={path: value.origin for path, value in merged.items()},
        profile=chosen,
        files=tuple(file.path for file in reversed(files)),
        notes=tuple(misspelled(environment)),
    )


def _typed_as_before(value: Value, before: Value | None) -> Value:
    """What the environment says of a node's setting is text; it takes the type of what it replaces."""
    if before is None or value.origin.kind != "environment" or type(before.value) not in (int, float, bool):
        return value
    try:
        return Value(msgspec.convert(value.value, type(before.value), strict=False), value.origin)
    except msgspec.ValidationError:
        return value


def _layers_of(file: SettingsFile, profile: str | None) -> list[Layer]:
    return [file.layer()] if profile is None else [file.layer(), file.layer(profile)]


def _profile_problems(chosen: str | None, files: Sequence[SettingsFile], said: str) -> list[Problem]:
    known = sorted({name for file in files for name in file.profiles})
    if chosen is None or chosen in known:
        return []
    cure = f"There are: {', '.join(known)}" if known else f"Write one: [profiles.{chosen}] in {OWN_FILE}"
    return [Problem(said, chosen, "profile", "there is no such profile", _meant(chosen, known) or cure)]


def _problems_of_other_profiles(chosen: str | None, files: Sequence[SettingsFile]) -> list[Problem]:
    """A mistake in a profile is told also by those who don't use it: it would wait for the day it is needed."""
    return [
        problem
        for file in files
        for profile in file.profiles
        if profile != chosen
        for problem in _converted(file.layer(profile))[1]
    ]


def _converted(layer: Layer) -> tuple[dict[Path, Any], list[Problem]]:
    values: dict[Path, Any] = {}
    problems = []
    for path, written in layer.items():
        try:
            values[path] = _convert(path, written)
        except _Wrong as wrong:
            problems.append(Problem(str(written.origin), dotted(path), wrong.code, wrong.message, wrong.cure))
    return values, problems


class _Wrong(Exception):
    def __init__(self, code: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.code, self.message, self.cure = code, message, cure


def _convert(path: Path, written: Value) -> Any:
    if path[0] not in FIELDS:
        cure = _meant(path[0], FIELDS) or "See what there is: headrace settings"
        raise _Wrong("unknown", "there is no such setting", cure)
    if len(path) - 1 != depth_of(path[0]):
        raise _Wrong("table", "is a table", f"Write it as [{dotted(path)}] with one line for each of its values")
    value, type_ = written.value, type_at(path)
    if path[0] in PLAIN and type(value) in (int, float, bool):
        value = str(value).lower()  # options travel as text, but nobody wants to quote numbers
    try:
        return msgspec.convert(value, type_, strict=written.origin.kind == "file")
    except msgspec.ValidationError:
        choices = _choices(type_)
        cure = _meant(str(value), choices) or f"Write {_expected(type_)}"
        said = repr(shown(path, value)) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
        raise _Wrong("type", f"{said} is not {_expected(type_)}", cure) from None


def _choices(type_: Any) -> tuple[str, ...]:
    """What a value may be, where there are a few words for it."""
    if get_origin(type_) is Literal:
        return get_args(type_)
    return tuple(choice for part in get_args(type_) for choice in _choices(part))


def _expected(type_: Any) -> str:
    """What a value has to be, for people."""
    choices = list(_choices(type_))
    if choices:
        return f"one of {', '.join(choices)}" if len(choices) > 1 else f"'{choices[0]}'"
    if type_ is str:
        return "text"
    return "text, a number, true or false" if bool in get_args(type_) else "a whole number from 1 on"


def _assembled(values: Mapping[Path, Any]) -> Settings:
    nested: dict[str, Any] = {}
    for path, value in values.items():
        table = nested
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return msgspec.convert(nested, Settings)


def misspelled(environment: Mapping[str, str]) -> list[str]:
    """Variables that are no settings but look as if they were meant to be.

    Others are no business of ours: Kubernetes sets `HEADRACE_SERVICE_HOST` where a service has that name.
    """
    notes = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX).partition("__")[0].lower()
        if not variable.startswith(PREFIX) or name in FIELDS or variable in _OTHER_VARIABLES:
            continue
        close = difflib.get_close_matches(name, FIELDS, 1, 0.7)
        if close:
            notes.append(f"{variable} is not read. Did you mean {PREFIX}{close[0].upper()}?")
    return notes


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), 1, 0.6)
    return f"Did you mean {close[0]}?" if close else ""
