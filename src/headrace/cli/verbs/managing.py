"""`workflows`: all that a store has, and taking one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, DryRun, Name, OutputOption, Redis, Yes
from headrace.cli.screen import Screen
from headrace.cli.verbs.operating import status, stop


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    workflows = typer.Typer(no_args_is_help=True, help="All workflows of a store: list, status, stop, remove.")
    workflows.command("list")(list_workflows)
    workflows.command("status")(status)
    workflows.command("stop")(stop)
    workflows.command("remove")(remove_workflow)
    app.add_typer(workflows, name="workflows", rich_help_panel=OPERATE)


def list_workflows(ctx: typer.Context, redis: Redis = None, output: OutputOption = "text") -> None:
    """List the workflows of a store: running, stopped, or lost with their Ray cluster.

    Example:  headrace workflows list --redis redis://localhost:6379/0
    """
    from headrace.cli import overview, workflows  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(None, configure(ctx, redis=redis), Project(Path.cwd()), "workflows list")
    raise typer.Exit(int(workflows.show_list(urls, Screen(), as_json=output == "json")))


def remove_workflow(
    ctx: typer.Context,
    workflow: Name,
    topics: Annotated[bool, typer.Option("--topics", help="Also delete the topics that it reads and writes.")] = False,
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Leave what it has made at Kafka (markers, consumer group).")
    ] = False,
    redis: Redis = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = "text",
) -> None:
    """Take a stopped workflow out for good: state, dead letters, code, its markers and consumer group at Kafka.

    Example:  headrace workflows remove orders --dry-run
    """
    from headrace.cli import overview, workflows  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, configure(ctx, redis=redis), Project(Path.cwd()), f"workflows remove {workflow}")
    code = workflows.remove(
        workflow, urls[0], Screen(), topics=topics, kafka=not store_only, dry_run=dry_run, yes=yes,
        as_json=output == "json",
    )  # fmt: skip
    raise typer.Exit(int(code))
