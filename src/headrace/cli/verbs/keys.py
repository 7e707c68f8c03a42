"""`keys`: who may call the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.configured import configure
from headrace.cli.options import OPERATE, OutputOption, Redis
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    keys = typer.Typer(no_args_is_help=True, help="Keys for callers of the gateway: made, listed, taken back.")
    keys.command("create")(create_key)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke_key)
    app.add_typer(keys, name="keys", rich_help_panel=OPERATE)


def create_key(  # noqa: PLR0913, PLR0917  each is an option of the verb
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who has it, for people.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose runs it is for.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="SCOPE", help="`read`, `write`, `admin`; repeatable. By default `read` and `write`."
        ),
    ] = None,
    workflow: Annotated[
        list[str] | None, typer.Option("--workflow", metavar="WORKFLOW", help="Only of this one; repeatable.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="Counts so long: `2h`, `90d`. By default for ever.")
    ] = None,
    rate: Annotated[
        str, typer.Option("--rate", metavar="RATE", help="How often it may be used: `100/s`, `600/m`, `50/10s`.")
    ] = "",
    redis: Redis = None,
    output: OutputOption = "text",
) -> None:
    """Make a key for callers of the gateway. It is printed this once; the store has a digest of it.

    Example:  headrace keys create shop --tenant acme --scope write --workflow orders --expires 90d
    """
    from headrace.cli import keys  # noqa: PLC0415

    order = keys.Order(name, tenant, scope or ["read", "write"], workflow or [], expires, rate)
    raise typer.Exit(int(keys.create(order, configure(ctx, redis=redis), Screen(), as_json=output == "json")))


def list_keys(ctx: typer.Context, redis: Redis = None, output: OutputOption = "text") -> None:
    """List the keys of a store: ids, names, tenants, scopes; never the keys themselves.

    Example:  headrace keys list -o json
    """
    from headrace.cli import keys  # noqa: PLC0415

    raise typer.Exit(int(keys.show_list(configure(ctx, redis=redis), Screen(), as_json=output == "json")))


def revoke_key(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` prints it.")],
    redis: Redis = None,
) -> None:
    """Take a key back. Gateways that have just seen it take it for some seconds more (5 by default).

    Example:  headrace keys revoke 5f0c2a9be1d34477
    """
    from headrace.cli import keys  # noqa: PLC0415

    raise typer.Exit(int(keys.revoke(id_, configure(ctx, redis=redis), Screen())))
