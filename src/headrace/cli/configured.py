"""The settings that a verb goes by: what was typed, before or after the verb, on top of environment and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from headrace.cli.exits import UsageError
from headrace.settings import Loaded, load_settings
from headrace.settings.layers import variable_of

if TYPE_CHECKING:
    from headrace.tracing.options import Tracing

_PATHS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "redis": ("--redis", ("redis_url",)),
    "kafka": ("--kafka", ("kafka", "bootstrap_servers")),
    "durability": ("--durability", ("durability",)),
    "workers": ("--workers", ("workers",)),
    "partitions": ("--partitions", ("partitions",)),
    "fuse": ("--fuse", ("fuse",)),
    "address": ("--address", ("ray_address",)),
    "host": ("--host", ("gateway", "host")),
    "port": ("--port", ("gateway", "port")),
    "processes": ("--processes", ("gateway", "processes")),
    "authentication": ("--authentication", ("gateway", "authentication")),
    "log_level": ("--log-level", ("log_level",)),
    "log_format": ("--log-format", ("log_format",)),
}
"""Options that are settings: what is typed, and the path of the setting."""
GLOBAL: Final = {"--profile": 1, "--log-level": 1, "--log-format": 1, "--debug": 0}
"""Options of the command itself, with the number of values; they may also be typed after the verb."""


def configure(ctx: typer.Context, **typed: Any) -> Loaded:
    """The settings for a verb; sets up the logs by them.

    Args:
        ctx: The verb's context.
        typed: Values of its options that are settings, by their names (`redis`, `workers`, ...); None where an
            option was not typed.

    Raises:
        SettingsError: Something is wrong with them.
    """
    from headrace.logs import configure_logs  # noqa: PLC0415  takes a tenth of a second, which --help need not wait

    whole = ctx.find_root().params
    assigned = [_assignment(text) for text in typed.pop("assign", None) or ()]
    given = typed | {name: whole.get(name) for name in ("log_level", "log_format")}
    flags = [*((*_PATHS[name], value) for name, value in given.items()), *assigned]
    loaded = load_settings(Path.cwd(), flags=flags, profile=whole.get("profile"))
    settings = loaded.settings
    configure_logs("debug" if whole.get("debug") else settings.log_level, settings.log_format)
    return loaded


def _assignment(text: str) -> tuple[str, tuple[str, ...], str]:
    """`NAME=VALUE`, as typed with `--set`: a setting for the nodes."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError("--set takes NAME=VALUE. A secret: --set NAME=env:VARIABLE, or NAME=file:/path")
    return "--set", ("settings", name.strip()), value


def for_children(loaded: Loaded) -> dict[str, str]:
    """Variables by which processes that are started hear of settings: of logs, as far as anybody has said something."""
    return {
        variable_of((field,)): str(getattr(loaded.settings, field))
        for field in ("log_level", "log_format")
        if loaded.origin((field,)).kind != "default"
    }


def traces_of(loaded: Loaded) -> Tracing | None:
    """Where traces go, by settings and by OpenTelemetry's own variables; None: there are none.

    Raises:
        TraceOptionError: Something that is said of them can't be used.
        TracesNotInstalled: There are to be traces, but the extra `otel` is not installed.
    """
    from headrace.tracing.options import tracing_of  # noqa: PLC0415  only verbs that run something need it

    return tracing_of(loaded.settings.traces, os.environ)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The command line with options of the command itself moved before the verb, where the parser expects them."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
        elif name not in GLOBAL:
            rest.append(argument)
        else:
            front.append(argument)
            if GLOBAL[name] and not equals:
                front += [value for value in [next(waiting, None)] if value is not None]
    return front + rest
