"""`metrics`: what the processes of workflows count, for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, Redis
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(metrics)


def metrics(
    ctx: typer.Context,
    workflow: Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Name; by default all.")] = None,
    redis: Redis = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Serve them at `/metrics` until stopped, instead of printing them."
        ),
    ] = None,
) -> None:
    """Print what all processes of running workflows count, as Prometheus reads it; or serve it.

    One address for all: processes leave their numbers in the store every two seconds.

    Example:  headrace metrics --listen 127.0.0.1:9464
    """
    from headrace.cli import measuring, overview  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, configure(ctx, redis=redis), Project(Path.cwd()), "metrics")
    raise typer.Exit(int(measuring.metrics(workflow, urls, Screen(), listen=listen)))
