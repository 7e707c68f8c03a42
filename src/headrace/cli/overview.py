"""`status` and `stop`: what a store says of workflows, from anywhere."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext, suppress
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from headrace.actors.pauses import get_pauses
from headrace.actors.spec import ClusterStatus, Pause
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.meter import Meter
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.cli.table import behind, described, paused, processes, summary
from headrace.cli.times import duration
from headrace.metrics.lag import Lag, lags_of
from headrace.settings import Loaded
from headrace.sources.channel import REDIS_URL

STOP_WITHIN: Final = 45.0
"""Seconds: draining may take 20, ending the processes some more."""
_PERIOD: Final = 0.2
_WATCH_EVERY: Final = 1.0
_FRESH: Final = 5.0
"""Seconds after which the age of a status document is told."""


class _Overview(msgspec.Struct, frozen=True):
    """One workflow of a store."""

    workflow: str
    running: bool
    status: ClusterStatus | None
    """The last document, where there is one."""
    lags: list[Lag] = []
    """Each log of its sources, those that are furthest behind first."""
    paused: list[Pause] = []
    """What a person has paused, also while it does not run."""


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
    found = asyncio.run(_look_at_all(urls, workflow))
    if as_json:
        screen.json(found)
    else:
        for part in _pictures(found, {}):
            screen.show(part)
    return ExitCode.UNREACHABLE if workflow and not any(row.running for row in found) else ExitCode.OK


def watch(workflow: str | None, urls: list[str], screen: Screen, *, as_json: bool = False) -> ExitCode:
    """As `status`, again and again until Ctrl-C: a picture on a terminal, else each time anew; JSON as lines."""
    meters: dict[str, Meter] = {}
    live = screen.picture() if screen.is_terminal and not as_json else nullcontext()
    with live, suppress(KeyboardInterrupt):
        while True:
            found = asyncio.run(_look_at_all(urls, workflow))
            if as_json:
                screen.json_line(found)
            elif isinstance(live, Live):
                live.update(Group(*_pictures(found, meters)), refresh=True)
            else:
                for part in _pictures(found, meters):
                    screen.show(part)
            time.sleep(_WATCH_EVERY)
    return ExitCode.OK


async def _look_at_all(urls: list[str], workflow: str | None) -> list[_Overview]:
    return [row for url in urls for row in await _look(url, workflow)]


async def _look(url: str, workflow: str | None) -> list[_Overview]:
    async with Registry(url, connections=2) as registry:
        names = [workflow] if workflow else await registry.workflows()
        return [await _overview(registry, name) for name in names]


async def _overview(registry: Registry, name: str) -> _Overview:
    running = await is_running(registry, name)
    document = await registry.status(name, PROCESS)
    read = None if document is None else msgspec.convert(document, ClusterStatus)
    lags = await lags_of(registry, read) if running and read is not None else []
    return _Overview(name, running, read, lags, list(await get_pauses(registry, name)))


def _pictures(found: list[_Overview], meters: dict[str, Meter]) -> list[RenderableType]:
    """What is shown of each workflow; with rates where there is a meter that saw it before."""
    if not found:
        return [Text("No workflow is known to this store.")]
    parts: list[RenderableType] = []
    for row in found:
        status = row.status
        if not row.running or status is None:
            what = "starting" if row.running else "not running"
            parts.append(Text.assemble((row.workflow, "bold"), "  ", (what, "dim")))
            parts += [paused(pause, row.workflow) for pause in row.paused]
            continue
        known = row.workflow in meters
        meter = meters.setdefault(row.workflow, Meter())
        meter.take(status)
        age = time.time() - status.time
        state = status.state if age < _FRESH else f"{status.state} {duration(age)} ago"
        words = f"  {state}  {status.partitions} partitions  version {status.version}"
        words += f"  durability {status.durability}"
        parts += [Text.assemble((row.workflow, "bold"), words), processes(status, meter if known else None)]
        parts.append(Text(summary(meter.totals(), meter.worker_rate if known else None)))
        parts += [Text(line) for line in [behind(row.lags)] if line]
        parts += [paused(pause, status.workflow) for pause in row.paused]
        parts += [described(problem) for problem in status.problems]
    return parts
