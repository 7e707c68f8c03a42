"""Completion by the shell: the script for it, and the answers to it."""

from __future__ import annotations

from typing import Any

from typer import completion

from headrace.cli import COMPLETE, NAME


def prepare() -> None:
    """Make typer's ways to answer known; it does so by itself only where its own options are shown."""
    completion.get_completion_inspect_parameters()


def print_script(command: Any, shell: str) -> int:
    """Print what a shell has to read, so that TAB completes verbs and options.

    Args:
        command: The command itself.
        shell: `bash`, `zsh`, `fish` or `powershell`.

    Returns:
        Exit code.
    """
    prepare()
    return completion.shell_complete(command, {}, NAME, COMPLETE, f"source_{shell}")
