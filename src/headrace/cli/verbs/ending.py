"""`runs send`, `execute`, `terminate` and `delete`: messages to runs, their nodes by themselves, and their ends."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import KeyPrefix, OlderThan, Redis
from headrace.cli.screen import Screen

_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def add_to(runs: typer.Typer) -> None:
    """Add the verbs of this module to `runs`."""
    runs.command("send")(send_message)
    runs.command("execute")(execute_node)
    runs.command("terminate")(terminate_runs)
    runs.command("delete")(delete_runs)


def send_message(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="WORKFLOW/KEY", help="A run as `runs list` prints it.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the workflow's `MessageSource`.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON; `-`: from standard input.")],
    message: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Of the message; sent again, it counts once."),
    ] = None,
    redis: Redis = None,
) -> None:
    """Send a message to a run, which goes on with it at its wait for that name; kept until it gets there.

    Example:  headrace runs send orders/4711 approval '{"by": "ann"}'
    """
    from headrace.cli import sending  # noqa: PLC0415

    raise typer.Exit(int(sending.send(run, name, data, configure(ctx, redis=redis), Screen(), message=message)))


def execute_node(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="WORKFLOW/KEY", help="A run as `runs list` prints it.")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of the node.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="What it takes: JSON; `-`: from standard input.")],
    commit: Annotated[bool, typer.Option("--commit", help="Keep states and effects.")] = False,
    redis: Redis = None,
) -> None:
    """Have a node process data with the states of a run, and print what it returned (JSON); nothing goes on from there.

    Without `--commit` nothing is kept of what it did to states or asked for by `ctx`; what its code does outside
    happens all the same.

    Example:  headrace runs execute orders/4711 price '{"order": "4711"}'
    """
    from headrace.cli import executing  # noqa: PLC0415

    raise typer.Exit(int(executing.execute(run, node, data, configure(ctx, redis=redis), Screen(), commit=commit)))


def terminate_runs(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="WORKFLOW/KEY...|WORKFLOW", help="Runs as `runs list` prints them, or a workflow."),
    ],
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Kept as the result of the run.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All runs of the workflow that are running.")] = False,
    key_prefix: KeyPrefix = "",
    older_than: OlderThan = None,
    yes: _Yes = False,
    redis: Redis = None,
) -> None:
    """End runs; asks first, and says how many they are. What was committed before still leaves, nothing else does.

    A run ends as soon as what is under way in its partition is done; events of it that stand still are no more. What
    comes later for its key begins another run, unless the source says `late=`. A workflow without keys ends as a whole,
    and its sources are closed.

    Example:  headrace runs terminate orders/4711 --reason "cancelled by the customer"
    """
    from headrace.cli import ending  # noqa: PLC0415
    from headrace.cli.choosing import filter_of  # noqa: PLC0415

    loaded = configure(ctx, redis=redis)
    wanted = filter_of(status="running", key_prefix=key_prefix, older_than=older_than)
    code = ending.terminate(targets, wanted, loaded, Screen(), reason=reason, everything=everything, yes=yes)
    raise typer.Exit(int(code))


def delete_runs(
    ctx: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="WORKFLOW/KEY...", help="Keys, running or not.")],
    yes: _Yes = False,
    redis: Redis = None,
) -> None:
    """Forget keys: their runs end, and all that the workflow keeps of them goes, dead letters too; asks first.

    Not in its reach: topics, messages that have left or are about to, backups, replies (they go after a day), logs.

    Example:  headrace runs delete chat/ada@example.com
    """
    from headrace.cli import ending  # noqa: PLC0415

    raise typer.Exit(int(ending.delete(targets, configure(ctx, redis=redis), Screen(), yes=yes)))
