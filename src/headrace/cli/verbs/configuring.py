"""`settings`: what the other verbs go by."""

from __future__ import annotations

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, OutputOption
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(settings)


def settings(ctx: typer.Context, output: OutputOption = "text") -> None:
    """Show each setting with its value and where it comes from; secrets are hidden.

    Settings are read from `headrace.toml`, from `[tool.headrace]` in `pyproject.toml`, and from the
    environment (`HEADRACE_REDIS_URL`, ...). `--profile NAME` adds those of `[profiles.NAME]`.

    Example:  headrace settings --profile prod
    """
    from headrace.cli.settings_view import show_settings  # noqa: PLC0415

    show_settings(configure(ctx), Screen(), as_json=output == "json")
