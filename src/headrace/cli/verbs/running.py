"""`dev` and `run`: a workflow on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from headrace.cli.configured import configure, for_children, traces_of
from headrace.cli.interrupts import ending_at_once
from headrace.cli.options import (
    DEVELOP,
    OPERATE,
    Assign,
    DropState,
    DurabilityOption,
    FuseOption,
    Kafka,
    Live,
    Partitions,
    Redis,
    StartOver,
    Target,
    Workers,
)
from headrace.cli.screen import Screen
from headrace.settings.model import BOOTSTRAP


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=DEVELOP)(ending_at_once()(dev))  # until there is something to stop in order
    app.command(rich_help_panel=OPERATE)(ending_at_once()(run))


def dev(  # noqa: PLR0913, PLR0917  each is an option of the verb
    ctx: typer.Context,
    target: Target,
    redis: Annotated[
        str | None, typer.Option("--redis", metavar="URL", help="Use this store instead of an embedded one.")
    ] = None,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use these brokers instead of an embedded one.")
    ] = None,
    broker: Annotated[
        Literal["tansu", "apache"],
        typer.Option("--broker", help="Broker to embed: Tansu (pip only), or Apache Kafka (Java and Maven)."),
    ] = "tansu",
    workers: Workers = None,
    partitions: Partitions = None,
    fuse: FuseOption = None,
    durability: DurabilityOption = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Without Ray: all in this process, for debuggers and a quick start.")
    ] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Take changes of your code when you save them; servers and state stay.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Answer requests over HTTP, too: the gateway, in this process.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Port of `--serve`, 8080 by default; 0: any.")
    ] = None,
    drop_state: DropState = None,
    start_over: StartOver = False,
    assign: Assign = None,
    live: Live = None,
) -> None:
    """Run a workflow here, with embedded servers that are gone at the end.

    Starts Valkey, a Kafka broker where the workflow has topics (and makes those), and a Ray of its own; shows
    a live table and how to send events. Ctrl-C finishes what is in flight and stops everything. Addresses of
    servers, and durability, are taken from options only: what settings say of them is for `run` and `deploy`.

    Example:  headrace dev flow.py --reload
    """
    from headrace.cli.session import Order, run_session  # noqa: PLC0415  loads Ray
    from headrace.gateway.settings import gateway_settings  # noqa: PLC0415

    loaded = configure(
        ctx, workers=workers, partitions=partitions, fuse=fuse, durability=durability, port=port, assign=assign
    )
    settings, screen = loaded.settings, Screen()
    order = Order(
        target=target, redis_url=redis, kafka=kafka, embedded=True, broker=broker,
        workers=1 if inline else settings.workers, partitions=settings.partitions,
        fuse=inline or settings.fuse == "all", durability=durability, settings=settings.settings,
        traces=traces_of(loaded), environment=for_children(loaded), keep=True, make_topics=True,
        start_over=start_over, reload=reload, drop_state=drop_state or (), inline=inline,
        live=screen.is_terminal and not inline if live is None else live,
        serve=gateway_settings(settings.gateway) if serve or port is not None else None,
    )  # fmt: skip
    raise typer.Exit(int(run_session(order, screen)))


def run(  # noqa: PLR0913, PLR0917  each is an option of the verb
    ctx: typer.Context,
    target: Target,
    redis: Redis = None,
    kafka: Kafka = None,
    workers: Workers = None,
    partitions: Partitions = None,
    fuse: FuseOption = None,
    durability: DurabilityOption = None,
    assign: Assign = None,
    make_topics: Annotated[bool, typer.Option("--make-topics", help="Make topics that don't exist.")] = False,
    drop_state: DropState = None,
    start_over: StartOver = False,
    keep: Annotated[bool, typer.Option("--keep", help="Stay when the run of an unkeyed workflow has ended.")] = False,
    live: Live = None,
) -> None:
    """Run a workflow here, with servers that exist.

    Waits for servers that are away, and says so. Without `--durability`: `fsync` where the store can, else
    `fast`, and it says why. Ends with 0 when it is stopped (Ctrl-C, SIGTERM, `headrace stop`), or when the run
    of an unkeyed workflow has ended. Options may be settings instead: `headrace settings` shows them.

    Example:  headrace run flow.py --redis redis://localhost:6379/0 --kafka localhost:9092
    """
    from headrace.cli.session import Order, run_session  # noqa: PLC0415  loads Ray

    loaded = configure(
        ctx,
        redis=redis,
        kafka=kafka,
        workers=workers,
        partitions=partitions,
        fuse=fuse,
        durability=durability,
        assign=assign,
    )
    settings, screen = loaded.settings, Screen()
    order = Order(
        target=target, redis_url=settings.redis_url or None, kafka=settings.kafka.get(BOOTSTRAP),
        kafka_options=settings.kafka, clusters=settings.clusters,
        workers=settings.workers, partitions=settings.partitions, fuse=settings.fuse == "all",
        durability=settings.durability, settings=settings.settings, traces=traces_of(loaded),
        environment=for_children(loaded), keep=keep,
        make_topics=make_topics, start_over=start_over, drop_state=drop_state or (),
        live=screen.is_terminal if live is None else live,
    )  # fmt: skip
    raise typer.Exit(int(run_session(order, screen)))
