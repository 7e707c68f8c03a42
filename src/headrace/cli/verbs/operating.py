"""`status`, `pause`, `resume`, `scale` and `stop`: workflows that run, here or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, Name, OutputOption, Redis
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(status)
    app.command(rich_help_panel=OPERATE)(pause)
    app.command(rich_help_panel=OPERATE)(resume)
    app.command(rich_help_panel=OPERATE)(scale)
    app.command(rich_help_panel=OPERATE)(stop)


_Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Only this source; may be given several times.")
]

_Nodes = Annotated[
    list[str] | None, typer.Option("--node", metavar="NODE", help="Only this node; may be given several times.")
]


def status(
    ctx: typer.Context,
    workflow: Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Name; by default all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second, until Ctrl-C.")] = False,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Show how workflows do: processes, partitions, events, problems.

    Without `--redis`: those that run from this folder. Ends with 3 if WORKFLOW is not running.

    Example:  headrace status temperature
    """
    from headrace.cli import overview  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, configure(ctx, redis=redis), Project(Path.cwd()), "status")
    show = overview.watch if watch else overview.status
    raise typer.Exit(int(show(workflow, urls, Screen(), as_json=output == "json")))


def pause(
    ctx: typer.Context, workflow: Name, source: _Sources = None, node: _Nodes = None, redis: Redis = None,
    output: OutputOption = "text",
) -> None:  # fmt: skip
    """Let a workflow take no new events, until `resume`. Waits until what is in flight is committed.

    State and positions stay; processes run on, and requests and events wait where they are. With `--node` only
    that node gets no events: they stand still before it, durably, those of a key in order. It stays paused
    whatever ends or starts: workers, supervisor, cluster, a new version. Ends with 1 if something is still in flight.

    Example:  headrace pause temperature
    """
    from headrace.cli import pausing  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    loaded, project = configure(ctx, redis=redis), Project(Path.cwd())
    parts = pausing.Parts(tuple(source or ()), tuple(node or ()))
    raise typer.Exit(int(pausing.pause(workflow, parts, loaded, project, Screen(), as_json=output == "json")))


def resume(
    ctx: typer.Context, workflow: Name, source: _Sources = None, node: _Nodes = None, redis: Redis = None,
    output: OutputOption = "text",
) -> None:  # fmt: skip
    """Let a paused workflow go on, where it stood.

    Example:  headrace resume temperature
    """
    from headrace.cli import pausing  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    loaded, project = configure(ctx, redis=redis), Project(Path.cwd())
    parts = pausing.Parts(tuple(source or ()), tuple(node or ()))
    raise typer.Exit(int(pausing.resume(workflow, parts, loaded, project, Screen(), as_json=output == "json")))


def scale(
    ctx: typer.Context,
    workflow: Name,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes that own partitions.")] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="NODE=N", help="Actors of this node; may be given several times."),
    ] = None,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Run a workflow with more or fewer workers and replicas of nodes, while it goes on. Waits until it does.

    Example:  headrace scale orders --workers 4 --replicas classify=2
    """
    from headrace.cli import scaling  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    wanted, loaded = scaling.replicas_of(replicas or []), configure(ctx, redis=redis)
    code = scaling.scale(workflow, workers, wanted, loaded, Project(Path.cwd()), Screen(), as_json=output == "json")
    raise typer.Exit(int(code))


def stop(
    ctx: typer.Context,
    workflow: Name,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Stop a workflow, wherever it runs: deployed, or by `dev` or `run`. Waits until it has stopped.

    Example:  headrace stop temperature
    """
    from headrace.cli import overview, stopping  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    urls = overview.urls_of(workflow, configure(ctx, redis=redis), Project(Path.cwd()), "stop")
    raise typer.Exit(int(stopping.stop(workflow, urls, Screen(), as_json=output == "json")))
