"""`new`: a project to begin with."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.options import DEVELOP
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=DEVELOP)(new)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Folder to make; its name is the workflow's.")],
    template: Annotated[
        str,
        typer.Option(
            "--template",
            "-t",
            metavar="NAME",
            help="What to begin with: `iot`, sensors and alerts; `approval`, orders that wait for somebody; `chat`.",
        ),
    ] = "iot",
) -> None:
    """Make a project: a workflow, its test, settings, a container file, a README.

    Example:  headrace new thermometers
    """
    from headrace.cli import creating  # noqa: PLC0415

    raise typer.Exit(int(creating.create(name, template, Screen())))
