"""`workflows list` and `remove`: what a store has of workflows, and taking one out for good."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Literal

import msgspec
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from headrace.actors.deployments import begin_change, get_deployment, is_stopped
from headrace.actors.pauses import get_pauses
from headrace.actors.removal import Removal, remove_workflow, what_goes
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.actors.supervise_status import get_supervise_status
from headrace.cli.exits import ExitCode, Interrupted, NothingRuns, UsageError
from headrace.cli.fitting import Fitting
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.cli.times import duration
from headrace.workflows.key_format import KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.store import WorkflowDescriptor

State = Literal["running", "paused", "stopped", "lost", "not running", "unreadable"]
_COLUMNS = ("workflow", "state", "version", "partitions", "workers", "where", "deployed")
_STYLES = {"running": "green", "paused": "bold yellow", "lost": "bold red", "unreadable": "bold red"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow of a store."""

    workflow: str
    state: State
    """`lost`: it was deployed and is to run, but nobody supervises it; `headrace supervise` brings it back.
    `unreadable`: its keys are of another Headrace's format, or of a restore that was not finished."""
    version: str
    partitions: int
    workers: int
    durability: str
    cluster: str
    """Label of its Ray cluster; empty: run or dev."""
    address: str
    target: str
    deployed: float
    """Seconds since 1970 UTC; 0: never by `deploy`."""


def show_list(urls: list[str], screen: Screen, *, as_json: bool) -> ExitCode:
    """All workflows of the stores, by name."""
    rows = [row for url in urls for row in asyncio.run(_rows(url))]
    if as_json:
        screen.json(rows)
    elif not rows:
        screen.say("No workflow is known to this store.")
    else:
        screen.show(Fitting(lambda left: _table(rows, left), ("version", "workers", "partitions", "where")))
        for url in urls:
            for sentence in asyncio.run(_supervised(url, {row.cluster for row in rows if row.cluster})):
                screen.explain("", Text(sentence, "dim"))
    return ExitCode.OK


async def _supervised(url: str, clusters: set[str]) -> list[str]:
    """Who brings back what is lost, for each Ray cluster that something was deployed to."""
    async with Registry(url, connections=1) as registry:
        found = [(cluster, await get_supervise_status(registry, cluster)) for cluster in sorted(clusters)]
    return [
        f"Cluster {cluster}: headrace supervise on {status.host}, process {status.pid};"
        f" {status.counters.get('revived', 0)} brought back so far."
        if status is not None
        else f"Cluster {cluster}: nobody runs headrace supervise; what is lost with its Ray head stays lost."
        for cluster, status in found
    ]


async def _rows(url: str) -> list[Row]:
    async with Registry(url, connections=1) as registry:
        found = []
        for name in await registry.workflows():
            try:
                descriptor = await registry.workflow(name)
            except (KeyFormatUnknown, RestoreUnfinished):
                found.append(_unreadable(name))
                continue
            if descriptor is not None:
                found.append(await _row(registry, descriptor, await get_deployment(registry, name)))
        return found


def _unreadable(name: str) -> Row:
    return Row(
        workflow=name, state="unreadable", version="", partitions=0, workers=0, durability="", cluster="", address="",
        target="", deployed=0.0,
    )  # fmt: skip


async def _row(registry: Registry, descriptor: WorkflowDescriptor, deployment: Deployment | None) -> Row:
    name = descriptor.name
    return Row(
        workflow=name,
        state=await state_of(registry, name, deployment),
        version=descriptor.version,
        partitions=descriptor.partitions,
        workers=deployment.workers if deployment else 0,
        durability=deployment.durability if deployment else "",
        cluster=deployment.cluster if deployment else "",
        address=deployment.address if deployment else "",
        target=deployment.target if deployment else "",
        deployed=deployment.deployed if deployment else 0.0,
    )


async def state_of(registry: Registry, workflow: str, deployment: Deployment | None) -> State:
    """How a workflow stands."""
    if await is_running(registry, workflow):
        everything = any(not pause.name for pause in await get_pauses(registry, workflow))
        return "paused" if everything else "running"
    if deployment is None or not deployment.cluster:
        return "not running"
    return "stopped" if await is_stopped(registry, workflow) else "lost"


def _table(rows: list[Row], left_out: Collection[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        if name not in left_out:
            justify: Literal["left", "right"] = "right" if name in ("partitions", "workers") else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=name not in ("workflow", "where"))
    for row in rows:
        cells: dict[str, str | Text] = {
            "workflow": Text(row.workflow, style="bold"), "state": Text(row.state, style=_STYLES.get(row.state, "dim")),
            "version": row.version, "partitions": str(row.partitions), "workers": str(row.workers or ""),
            "where": f"{row.cluster} ({row.address})" if row.cluster else "run, dev",
            "deployed": f"{duration(time.time() - row.deployed)} ago" if row.deployed else "",
        }  # fmt: skip
        table.add_row(*(cells[name] for name in _COLUMNS if name not in left_out))
    return table


def remove(
    workflow: str,
    url: str,
    screen: Screen,
    *,
    topics: bool,
    kafka: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> ExitCode:
    """Take a workflow out of the store, and what is its own out of Kafka; for good.

    Args:
        workflow: Its name.
        url: The store.
        screen: Where it is told.
        topics: Also delete the topics that it reads and writes.
        kafka: Remove its markers and its consumer group at Kafka.
        dry_run: Only say what would go.
        yes: Don't ask.
        as_json: One document instead of text.

    Raises:
        UsageError: It is running, or nobody can be asked.
        NothingRuns: The store knows no such workflow.
    """
    removal = asyncio.run(_what_goes(url, workflow, topics=topics, kafka=kafka))
    if not as_json:
        screen.say(f"{workflow}: {removal.keys} keys of the store: state, streams, dead letters, code", "bold")
        for line in removal.lines:
            screen.say(f"  {line}")
    if not dry_run:
        _confirm(workflow, screen, asked=not yes, can_ask=screen.is_terminal and not as_json)
        asyncio.run(_remove(url, removal))
    if as_json:
        lines = list(removal.lines)
        screen.json({"workflow": workflow, "removed": not dry_run, "keys": removal.keys, "besides": lines})
    else:
        screen.say("Nothing was removed (--dry-run)." if dry_run else f"{workflow} is removed.")
    return ExitCode.OK


def _confirm(workflow: str, screen: Screen, *, asked: bool, can_ask: bool) -> None:
    if not asked:
        return
    if not can_ask:
        raise UsageError(f"This removes {workflow} for good. To do it say --yes; to look first, --dry-run.")
    if not typer.confirm("Remove all of it, for good?"):
        screen.say("Nothing was removed.")
        raise Interrupted


async def _what_goes(url: str, workflow: str, *, topics: bool, kafka: bool) -> Removal:
    async with Registry(url, connections=1) as registry:
        if await is_running(registry, workflow):
            raise UsageError(f"{workflow} is running. Stop it first: headrace stop {workflow}")
        with suppress(RestoreUnfinished):  # what it has left is to go
            await registry.check_format(workflow)
        removal = await what_goes(registry, workflow, topics=topics, kafka=kafka)
        if not removal.keys:
            known = ", ".join(await registry.workflows()) or "none"
            raise NothingRuns(f"The store at {registry.address} knows no workflow {workflow}. It knows: {known}.")
        return removal


async def _remove(url: str, removal: Removal) -> None:
    async with Registry(url, connections=1) as registry:
        await begin_change(registry, removal.workflow, f"{socket.gethostname()}, process {os.getpid()}")
        await remove_workflow(registry, removal)
