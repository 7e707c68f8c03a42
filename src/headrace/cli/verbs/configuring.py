"""`settings`, `doctor` and `completion`: what the other verbs go by, what they need, help with typing them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, Kafka, OutputOption, Redis
from headrace.cli.screen import Screen

Shell = Literal["bash", "zsh", "fish", "powershell"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(settings)
    app.command(rich_help_panel=OPERATE)(doctor)
    app.command(rich_help_panel=OPERATE)(completion)


def settings(ctx: typer.Context, output: OutputOption = "text") -> None:
    """Show each setting with its value and where it comes from; secrets are hidden.

    Settings are read from `headrace.toml`, from `[tool.headrace]` in `pyproject.toml`, and from the
    environment (`HEADRACE_REDIS_URL`, ...). `--profile NAME` adds those of `[profiles.NAME]`.

    Example:  headrace settings --profile prod
    """
    from headrace.cli.settings_view import show_settings  # noqa: PLC0415

    show_settings(configure(ctx), Screen(), as_json=output == "json")


def doctor(
    ctx: typer.Context,
    redis: Redis = None,
    kafka: Kafka = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Ray cluster: `ray://host:10001` or `host:6379`.")
    ] = None,
    output: OutputOption = "text",
) -> None:
    """Look at what a workflow needs: versions, room, Redis, Kafka, Ray, clocks; say what is wrong, and the cure.

    Servers are those of the settings (`--profile` chooses others). Ends with 1 if something would keep a workflow from
    running.

    Example:  headrace doctor --profile prod
    """
    from headrace.cli.doctor import examine  # noqa: PLC0415

    loaded = configure(ctx, redis=redis, kafka=kafka, address=address)
    raise typer.Exit(int(examine(loaded, Screen(), as_json=output == "json")))


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
