"""`deploy` and `supervise`: workflows on a Ray cluster that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.configured import configure, traces_of
from headrace.cli.options import (
    OPERATE,
    Assign,
    DropState,
    DryRun,
    DurabilityOption,
    FuseOption,
    Kafka,
    OutputOption,
    Partitions,
    Redis,
    StartOver,
    Target,
    Workers,
    Yes,
)
from headrace.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=OPERATE)(deploy)
    app.command(rich_help_panel=OPERATE)(supervise)


Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="ADDRESS", help="Ray cluster: ray://HOST:10001, or HOST:6379 on a machine of it."
    ),
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", metavar="LABEL", help="Label of the Ray cluster, where several share a store.")
]


def deploy(  # noqa: PLR0913, PLR0917  each is an option of the verb
    ctx: typer.Context,
    target: Target,
    address: Address = None,
    redis: Redis = None,
    kafka: Kafka = None,
    workers: Workers = None,
    partitions: Partitions = None,
    fuse: FuseOption = None,
    durability: DurabilityOption = None,
    assign: Assign = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            "--working-dir",
            exists=True,
            file_okay=False,
            help="Folder with all code of the workflow. Default: the one it is imported from.",
        ),
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(
            "--requirements",
            exists=True,
            dir_okay=False,
            help="requirements.txt that every machine of the cluster must satisfy; it is checked, not installed.",
        ),
    ] = None,
    cluster: ClusterOption = "default",
    make_topics: Annotated[bool, typer.Option("--make-topics", help="Make topics that don't exist.")] = False,
    replication: Annotated[int, typer.Option("--replication", min=1, help="Copies of topics that are made.")] = 1,
    drop_state: DropState = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="End the version that runs before the new one starts.")
    ] = False,
    start_over: StartOver = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Don't wait until it is up.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = "text",
) -> None:
    """Run a workflow on a Ray cluster that exists; it stays there when the command has ended.

    Packs its folder, looks at everything (workflow, store, topics, the cluster's machines), says what will
    change, and starts it. A new version comes up beside the one that runs, and takes over when all of it is there;
    state stays. Again with the same code: nothing to change.

    Example:  headrace deploy flow.py --address ray://head:10001
    """
    from headrace.cli.deploying import DeployOrder  # noqa: PLC0415  loads Ray
    from headrace.cli.deploying import deploy as deploy_order  # noqa: PLC0415
    from headrace.sources.kafka_connection import KafkaClusters  # noqa: PLC0415

    loaded = configure(
        ctx, address=address, redis=redis, kafka=kafka, workers=workers, partitions=partitions, fuse=fuse,
        durability=durability, assign=assign,
    )  # fmt: skip
    settings = loaded.settings
    order = DeployOrder(
        target=target, address=settings.ray_address, redis_url=settings.redis_url,
        kafka=KafkaClusters(settings.kafka, settings.clusters), durability=settings.durability,
        workers=None if loaded.origin(("workers",)).kind == "default" else settings.workers,
        partitions=settings.partitions, fuse=settings.fuse == "all", cluster=cluster,
        working_dir=working_dir, requirements=requirements, settings=settings.settings, make_topics=make_topics,
        gateway=settings.gateway,
        traces=traces_of(loaded), drop_state=drop_state or (), restart=restart, start_over=start_over,
        replication=replication, wait=not no_wait, dry_run=dry_run, yes=yes,
    )  # fmt: skip
    raise typer.Exit(int(deploy_order(order, Screen(), as_json=output == "json")))


def supervise(
    ctx: typer.Context,
    address: Address = None,
    redis: Redis = None,
    cluster: ClusterOption = "default",
    heartbeat: Annotated[
        Path | None,
        typer.Option("--heartbeat", metavar="FILE", help="Touch this file at every look: for a liveness probe."),
    ] = None,
) -> None:
    """Look after deployed workflows: bring them back when their Ray cluster was lost.

    Runs until it is stopped (Ctrl-C, SIGTERM), best under systemd or Kubernetes; several at once do no harm.
    A workflow that `headrace stop` has stopped stays stopped.

    Example:  headrace supervise --address head:6379 --redis redis://store:6379/0
    """
    from headrace.cli.supervising import supervise as run  # noqa: PLC0415

    loaded = configure(ctx, address=address, redis=redis)
    raise typer.Exit(int(run(loaded, cluster, heartbeat)))
