"""`scale`: more or fewer workers and replicas of a workflow that runs, by way of the store."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from headrace.actors.changes import Change, changes_between
from headrace.actors.deployments import begin_change, end_change, get_deployment
from headrace.actors.live_change import change_live, scaled
from headrace.actors.spec import ClusterStatus
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.settings import Loaded

UP_WITHIN: Final = timedelta(seconds=80)
"""For the processes that are new; less than others wait for a change that is under way."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; the document of `-o json`."""

    workflow: str
    changes: list[Change]
    """What was different; none: it was so already."""
    status: ClusterStatus | None = None


def replicas_of(texts: Sequence[str]) -> dict[str, int]:
    """`NODE=N` as typed.

    Raises:
        UsageError: One is not written so.
    """
    found: dict[str, int] = {}
    for text in texts:
        node, _, count = text.rpartition("=")
        if not node or not count.isdecimal() or not int(count):
            raise UsageError(f"--replicas {text} is not NODE=NUMBER, as in --replicas classify=4; the number from 1.")
        found[node] = int(count)
    return found


def scale(
    workflow: str,
    workers: int | None,
    replicas: Mapping[str, int],
    loaded: Loaded,
    project: Project,
    screen: Screen,
    *,
    as_json: bool,
) -> ExitCode:
    """Have a running workflow go on with other numbers of processes; returns when it does.

    Args:
        workflow: Its name.
        workers: How many; None: as many as now.
        replicas: Node -> how many; of others as many as now.
        loaded: Settings: where the store is.
        project: The current folder's.
        screen: Where it is told.
        as_json: One document instead of text.

    Raises:
        UsageError: Nothing was asked for.
        NothingRuns: It is unknown, does not run, or runs without a supervisor.
        ChangeUnderWay: Somebody deploys, stops or scales it at this moment.
        NotTaken: The new processes did not come up; nothing has changed.
    """
    if workers is None and not replicas:
        raise UsageError(f"Say how many: headrace scale {workflow} --workers 4, or --replicas NODE=4.")
    outcome = asyncio.run(_scale(workflow, workers, replicas, loaded, project, screen if not as_json else None))
    if as_json:
        screen.json(outcome)
    elif outcome.changes:
        screen.say(f"{workflow} runs so. Look: headrace status {workflow}", "green")
    else:
        screen.say(f"{workflow} runs so already: nothing to change.", "green")
    return ExitCode.OK


async def _scale(
    workflow: str,
    workers: int | None,
    replicas: Mapping[str, int],
    loaded: Loaded,
    project: Project,
    screen: Screen | None,
) -> Outcome:
    who = f"{socket.gethostname()}, process {os.getpid()}"
    async with found_workflow(workflow, loaded, project, "scale") as (registry, _):
        await _refuse_where_none_runs(registry, workflow)
        await begin_change(registry, workflow, who)
        try:
            before = await get_deployment(registry, workflow)
            assert before is not None, "it runs"
            after = scaled(before, workers, replicas)
            changes = changes_between(before, after)
            for change in changes if screen is not None else []:
                assert screen is not None
                screen.say(f"  ~ {change}", "cyan")
            if not changes:
                return Outcome(workflow=workflow, changes=[])
            told = _Progress(screen)
            status = await change_live(registry, before, after, within=UP_WITHIN, on_status=told)
            return Outcome(workflow=workflow, changes=changes, status=status)
        finally:
            await end_change(registry, workflow, who)


async def _refuse_where_none_runs(registry: Registry, workflow: str) -> None:
    if not await is_running(registry, workflow):
        raise NothingRuns(f"{workflow} does not run. Start it with as many: headrace deploy TARGET --workers N")
    if await get_deployment(registry, workflow) is None:
        raise NothingRuns(f"The store at {registry.address} does not say how {workflow} is to run.")
    document = await registry.status(workflow, "supervisor")
    if document is not None and any(role["actor"] == "inline" for role in document["roles"]):
        raise NothingRuns(f"{workflow} runs inside one process (dev --inline), which can't be scaled. Run it without.")


class _Progress:
    """Says how far a change is, when that changes."""

    def __init__(self, screen: Screen | None) -> None:
        self._screen = screen
        self._said = ""

    def __call__(self, status: ClusterStatus) -> None:
        if status.coming and status.coming != self._said and self._screen is not None:
            self._said = status.coming
            self._screen.say(status.coming, "yellow")
