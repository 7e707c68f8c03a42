"""`serve`, `openapi` and `asyncapi`: the gateway, what its interface is, and which topics workflows have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.cli.configured import configure, traces_of
from headrace.cli.options import OPERATE, Redis
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(serve)
    app.command(rich_help_panel=OPERATE)(openapi)
    app.command(rich_help_panel=OPERATE)(asyncapi)


def serve(
    ctx: typer.Context,
    redis: Redis = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Listen here; `0.0.0.0`: for other machines, too.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="8080 by default; 0: any.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes that answer, all at one port.")
    ] = None,
    authentication: Annotated[
        Literal["none", "required"] | None,
        typer.Option("--authentication", help="`required`: callers need a key or token; has to be said with `--host`."),
    ] = None,
) -> None:
    """Answer requests over HTTP for all workflows of a store, wherever they run; needs no Ray, and none of your code.

    SIGTERM or Ctrl-C answers what is open, and ends. Limits are settings, in the table `[gateway]`. Without `--redis`:
    the store of what runs from this folder.

    Example:  headrace serve --redis redis://localhost:6379/0 --port 8080
    """
    from headrace.cli import overview, serving  # noqa: PLC0415
    from headrace.cli.project import Project  # noqa: PLC0415

    loaded = configure(
        ctx, redis=redis, host=host, port=port, processes=processes, authentication=authentication
    )  # fmt: skip
    url = overview.urls_of(None, loaded, Project(Path.cwd()), "serve")[0]
    raise typer.Exit(int(serving.serve(url, loaded, Screen(), traces=traces_of(loaded))))


def openapi(
    ctx: typer.Context,
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Name, or file: with its types; by default of any.")
    ] = None,
    redis: Redis = None,
) -> None:
    """Print the gateway's interface as an OpenAPI document, for generators of clients.

    With WORKFLOW: its name in the addresses, the types of its sources as bodies. A name is one that the store knows; a
    file (`flow.py`, `flow:workflow`) is imported, and needs no store.

    Example:  headrace openapi orders > orders.json
    """
    from headrace.cli import serving  # noqa: PLC0415

    raise typer.Exit(int(serving.show_openapi(workflow, configure(ctx, redis=redis), Screen())))


def asyncapi(
    ctx: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name that the store knows; or file, `flow.py`.")],
    redis: Redis = None,
) -> None:
    """Print the Kafka topics that a workflow reads from and sends to, with the types of its data, as AsyncAPI 3.0.

    Of a file no store is asked: `headrace asyncapi flow.py`.

    Example:  headrace asyncapi orders > orders-topics.json
    """
    from headrace.cli import serving  # noqa: PLC0415

    raise typer.Exit(int(serving.show_asyncapi(workflow, configure(ctx, redis=redis), Screen())))
