"""`runs`, `parked` and `dead`: what the store has of a workflow."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, Cursor, KeyPrefix, Limit, OlderThan, OutputOption, Redis, Yes
from headrace.cli.screen import Screen
from headrace.cli.verbs import ending

_Workflow = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="Name; by default the only one there is.")]
_Reason = Annotated[
    str | None, typer.Option("--reason", metavar="WORD", help="Only with this reason: `decode`, `error`, `reject`, ...")
]
_Node = Annotated[str | None, typer.Option("--node", metavar="NAME", help="Only those that failed at this node.")]
_Targets = Annotated[
    list[str],
    typer.Argument(metavar="WORKFLOW|LETTER...", help="A workflow, or letters as `dead list` prints them."),
]
_Everything = Annotated[bool, typer.Option("--all", help="All of the workflow's.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    runs = typer.Typer(no_args_is_help=True, help="Look at runs: a sensor, a chat session, an order; and their states.")
    runs.command("list")(list_runs)
    runs.command("show")(show_run)
    ending.add_to(runs)
    app.add_typer(runs, name="runs", rich_help_panel=OPERATE)
    app.command("parked", rich_help_panel=OPERATE)(parked)
    dead = typer.Typer(no_args_is_help=True, help="Look at dead letters: what could not be processed, and why.")
    dead.command("list")(list_letters)
    dead.command("show")(show_letter)
    dead.command("replay")(replay_letters)
    dead.command("drop")(drop_letters)
    app.add_typer(dead, name="dead", rich_help_panel=OPERATE)


def list_runs(  # noqa: PLR0913, PLR0917  each is an option of the verb
    ctx: typer.Context,
    workflow: _Workflow = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only `running`, `completed`, `terminated`, ..."),
    ] = None,
    key_prefix: KeyPrefix = "",
    older_than: OlderThan = None,
    ended_within: Annotated[
        str | None, typer.Option("--ended-within", metavar="TIME", help="Only those that ended not longer ago: `2h`.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """List runs, in no order; ended ones are kept for as long as the workflow's `retention=` says: a day, if nothing.

    Example:  headrace runs list thermometers --status running
    """
    from headrace.cli import runs  # noqa: PLC0415
    from headrace.cli.choosing import filter_of  # noqa: PLC0415

    loaded = configure(ctx, redis=redis)
    wanted = filter_of(status=status, key_prefix=key_prefix, older_than=older_than, ended_within=ended_within)
    code = runs.show_list(workflow, loaded, Screen(), wanted, limit=limit, cursor=cursor, as_json=output == "json")
    raise typer.Exit(int(code))


def show_run(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="WORKFLOW/KEY", help="A run as `runs list` prints it.")],
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Show a run: its status, how it ended and by which node, the state of each node as JSON, its result.

    Example:  headrace runs show thermometers/kitchen
    """
    from headrace.cli import runs  # noqa: PLC0415

    raise typer.Exit(int(runs.show_one(run, configure(ctx, redis=redis), Screen(), as_json=output == "json")))


def parked(
    ctx: typer.Context,
    workflow: _Workflow = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Only what stands before this node.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only what is of this key.")] = None,
    limit: Limit = 50,
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Show which events stand still: they are to be tried again, or stand behind one of their key that is.

    Example:  headrace parked orders --node charge
    """
    from headrace.cli.parked import show_parked  # noqa: PLC0415

    loaded = configure(ctx, redis=redis)
    code = show_parked(workflow, loaded, Screen(), node=node, key=key, limit=limit, as_json=output == "json")
    raise typer.Exit(int(code))


def list_letters(
    ctx: typer.Context,
    workflow: _Workflow = None,
    reason: _Reason = None,
    node: _Node = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """List dead letters, the newest first.

    Example:  headrace dead list thermometers --reason error
    """
    from headrace.actors.dead_letters import Filter  # noqa: PLC0415
    from headrace.cli import dead  # noqa: PLC0415

    loaded, wanted = configure(ctx, redis=redis), Filter(reason=reason, node=node)
    code = dead.show_list(workflow, loaded, Screen(), wanted, limit=limit, cursor=cursor, as_json=output == "json")
    raise typer.Exit(int(code))


def show_letter(
    ctx: typer.Context,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="A dead letter as `dead list` prints it.")],
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Show a dead letter: the event, the error, your part of the traceback.

    Example:  headrace dead show thermometers/3/1764168000000-0
    """
    from headrace.cli import dead  # noqa: PLC0415

    raise typer.Exit(int(dead.show_one(letter, configure(ctx, redis=redis), Screen(), as_json=output == "json")))


def drop_letters(
    ctx: typer.Context,
    targets: _Targets,
    reason: _Reason = None,
    node: _Node = None,
    everything: _Everything = False,
    yes: Yes = False,
    redis: Redis = None,
) -> None:
    """Take dead letters out, for good; asks first. Who did it is kept in the workflow's audit stream.

    Example:  headrace dead drop thermometers --reason tombstone
    """
    from headrace.actors.dead_letters import Filter  # noqa: PLC0415
    from headrace.cli import dead  # noqa: PLC0415

    loaded, wanted = configure(ctx, redis=redis), Filter(reason=reason, node=node)
    raise typer.Exit(int(dead.drop(targets, wanted, loaded, Screen(), everything=everything, yes=yes)))


def replay_letters(
    ctx: typer.Context,
    targets: _Targets,
    reason: _Reason = None,
    node: _Node = None,
    everything: _Everything = False,
    yes: Yes = False,
    redis: Redis = None,
) -> None:
    """Send dead letters back to where they stopped; asks first. Each goes once, those of a key in their order.

    An event goes to the node that failed, not through those before it again; a message goes to its sink; a record
    that was no event comes in by its source. First mend what was wrong: what stops again is a dead letter again.

    Example:  headrace dead replay thermometers --node alert
    """
    from headrace.actors.dead_letters import Filter  # noqa: PLC0415
    from headrace.cli import dead  # noqa: PLC0415

    loaded, wanted = configure(ctx, redis=redis), Filter(reason=reason, node=node)
    raise typer.Exit(int(dead.replay(targets, wanted, loaded, Screen(), everything=everything, yes=yes)))
