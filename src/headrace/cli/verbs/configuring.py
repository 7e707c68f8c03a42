"""`settings` and `completion`: what the other verbs go by, and help with typing them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, OutputOption
from headrace.cli.screen import Screen

Shell = Literal["bash", "zsh", "fish", "powershell"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(settings)
    app.command(rich_help_panel=OPERATE)(completion)


def settings(ctx: typer.Context, output: OutputOption = "text") -> None:
    """Show each setting with its value and where it comes from; secrets are hidden.

    Settings are read from `headrace.toml`, from `[tool.headrace]` in `pyproject.toml`, and from the
    environment (`HEADRACE_REDIS_URL`, ...). `--profile NAME` adds those of `[profiles.NAME]`.

    Example:  headrace settings --profile prod
    """
    from headrace.cli.settings_view import show_settings  # noqa: PLC0415

    show_settings(configure(ctx), Screen(), as_json=output == "json")


def completion(
    ctx: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="The shell that reads it.")],
) -> None:
    """Print what your shell has to read, so that TAB completes verbs and options.

    bash: put `eval "$(headrace completion bash)"` into ~/.bashrc; zsh: the same with zsh, into ~/.zshrc, after
    compinit; fish: `headrace completion fish > ~/.config/fish/completions/headrace.fish`.

    Example:  headrace completion bash
    """
    from headrace.cli.completion import print_script  # noqa: PLC0415

    raise typer.Exit(print_script(ctx.find_root().command, shell))
