"""`status` and `stop`: what a store says of workflows, from anywhere."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from rich.text import Text

from headrace.actors.spec import ClusterStatus
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.meter import Meter
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.stops import ask_to_stop, asked_to_stop, is_running
from headrace.cli.table import described, processes, summary
from headrace.settings import Loaded
from headrace.sources.channel import REDIS_URL
from headrace.workflows.store import StoreUnavailable

STOP_WITHIN: Final = 45.0
"""Seconds: draining may take 20, ending the processes some more."""
_PERIOD: Final = 0.2


class _Overview(msgspec.Struct, frozen=True):
    """One workflow of a store."""

    workflow: str
    running: bool
    status: ClusterStatus | None
    """The last document, where there is one."""


def urls_of(workflow: str | None, loaded: Loaded, project: Project, verb: str) -> list[str]:
    """Stores to ask.

    One that was typed, or is in the environment; else those of workflows that run from this folder; else
    the one in the settings' files.

    Raises:
        UsageError: There is none.
        NothingRuns: Something runs from this folder, but not this workflow.
    """
    url = loaded.settings.redis_url
    if loaded.origin(("redis_url",)).kind in ("flag", "environment"):
        return [url]
    here = project.running()
    found = [run.redis_url for run in here if workflow in (None, run.workflow)]
    if found or url:
        return list(dict.fromkeys(found)) or [url]
    if here:
        names = ", ".join(run.workflow for run in here)
        raise NothingRuns(f"{workflow} does not run from this folder. Running: {names}")
    typed = f"headrace {verb}{f' {workflow}' if workflow else ''} --redis redis://HOST:6379/0"
    raise UsageError(
        f"Nothing runs from this folder. Say where the store is: {typed}\n"
        f"Or set {REDIS_URL}, or redis_url in headrace.toml."
    )


def status(workflow: str | None, urls: list[str], screen: Screen, *, as_json: bool = False) -> ExitCode:
    """Show how one workflow does, or all of them."""
    found = [row for url in urls for row in asyncio.run(_look(url, workflow))]
    if as_json:
        screen.json(found)
    elif not found:
        screen.say("No workflow is known to this store.")
    for row in [] if as_json else found:
        _show(row, screen)
    return ExitCode.UNREACHABLE if workflow and not any(row.running for row in found) else ExitCode.OK


async def _look(url: str, workflow: str | None) -> list[_Overview]:
    async with Registry(url, connections=2) as registry:
        names = [workflow] if workflow else await registry.workflows()
        return [await _overview(registry, name) for name in names]


async def _overview(registry: Registry, name: str) -> _Overview:
    running = await is_running(registry, name)
    documents: dict[str, Any] = await registry.statuses(name)
    document = documents.get(PROCESS)
    read = None if document is None else msgspec.convert(document, ClusterStatus)
    return _Overview(name, running, read)


def _show(row: _Overview, screen: Screen) -> None:
    if not row.running or row.status is None:
        what = "not running" if not row.running else "starting"
        screen.write(Text.assemble((row.workflow, "bold"), "  ", (what, "dim")))
        return
    meter = Meter()
    meter.take(row.status)
    age = time.time() - row.status.time
    state = row.status.state if age < 5.0 else f"{row.status.state} {age:.0f} s ago"  # noqa: PLR2004
    screen.write(
        Text.assemble(
            (row.workflow, "bold"),
            f"  {state}  {row.status.partitions} partitions  version {row.status.version}"
            f"  durability {row.status.durability}",
        )
    )
    screen.show(processes(row.status))
    screen.say(summary(meter.totals()))
    for problem in row.status.problems:
        screen.write(described(problem))


def stop(workflow: str, urls: list[str], screen: Screen, *, within: float = STOP_WITHIN) -> ExitCode:
    """Ask the process that runs a workflow to stop, and wait until it has."""
    for url in urls:
        asyncio.run(_stop(url, workflow, within))
    screen.say(f"{workflow} has stopped.")
    return ExitCode.OK


async def _stop(url: str, workflow: str, within: float) -> None:
    deadline = time.monotonic() + within
    async with Registry(url, connections=1) as registry:
        if not await is_running(registry, workflow):
            raise NothingRuns(f"{workflow} is not running with the store at {registry.address}.")
        await ask_to_stop(registry, workflow)
        while time.monotonic() < deadline:
            await asyncio.sleep(_PERIOD)
            try:
                if not await asked_to_stop(registry, workflow):
                    return
            except StoreUnavailable:
                return  # an embedded store ends with the process that started it
    raise NothingRuns(
        f"{workflow} has not stopped within {within:.0f} s: the process that runs it (headrace dev or run) does not"
        " react. Press Ctrl-C there, or end it."
    )
