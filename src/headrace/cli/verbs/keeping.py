"""`backup`, `restore` and `reset`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, DryRun, OutputOption, Redis, StoppedName, Yes
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(backup)
    app.command(rich_help_panel=OPERATE)(restore)
    app.command(rich_help_panel=OPERATE)(reset)


def backup(
    ctx: typer.Context,
    workflow: StoppedName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it is there when all is written.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Write all that the store has of a stopped workflow to a file: states, positions, dead letters, code.

    Example:  headrace backup orders orders.backup
    """
    from headrace.cli import keeping  # noqa: PLC0415

    loaded = configure(ctx, redis=redis)
    raise typer.Exit(int(keeping.backup(workflow, file, loaded, Screen(), force=force, as_json=output == "json")))


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `headrace backup` has written.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take a workflow of that name out of the store first; asks.")
    ] = False,
    redis: Redis = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = "text",
) -> None:
    """Write a backup into a store. The workflow is stopped then; deploy or run it, and it goes on from there.

    Example:  headrace restore orders.backup --redis redis://localhost:6379/0
    """
    from headrace.cli import keeping  # noqa: PLC0415

    loaded = configure(ctx, redis=redis)
    code = keeping.restore(file, loaded, Screen(), replace=replace, dry_run=dry_run, yes=yes, as_json=output == "json")
    raise typer.Exit(int(code))


def reset(
    ctx: typer.Context,
    workflow: StoppedName,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="WHERE",
            help="`earliest`, `latest`, a time (2026-11-27T06:00:00Z), or TOPIC/3=1734, once for each topic partition.",
        ),
    ],
    state: Annotated[
        Literal["keep", "drop"], typer.Option("--state", help="`drop`: forget all runs and begin from empty states.")
    ] = "keep",
    redis: Redis = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = "text",
) -> None:
    """Set the positions of a stopped workflow's Kafka sources: to read again, or to pass over. Asks first.

    States stay as they are unless `--state drop` is said: then what they count of events that are read again
    counts twice. Who did it is kept in the workflow's audit stream.

    Example:  headrace reset orders --to earliest --state drop --dry-run
    """
    from headrace.cli import resetting  # noqa: PLC0415

    order = resetting.Order(workflow, to, state == "drop", dry_run, yes)
    code = resetting.reset_workflow(order, configure(ctx, redis=redis), Screen(), as_json=output == "json")
    raise typer.Exit(int(code))
