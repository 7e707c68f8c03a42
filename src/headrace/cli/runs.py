"""`runs`: the runs of a workflow and their states, as the store has them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from headrace.actors.run_beginning import ACCEPTED
from headrace.actors.run_views import MOST_LOOKED_AT, RunFilter, RunPage, RunView, get_run, list_runs
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.times import ago, duration
from headrace.settings import Loaded
from headrace.workflows.runs import RUNNING


def show_list(
    workflow: str | None, loaded: Loaded, screen: Screen, wanted: RunFilter, *, limit: int, cursor: str, as_json: bool
) -> ExitCode:
    """Print a page of runs.

    Raises:
        HeadraceError: See `found_workflow` and `list_runs`.
    """

    async def read() -> tuple[str, RunPage]:
        async with found_workflow(workflow, loaded, Project(Path.cwd()), "runs list") as (registry, descriptor):
            return descriptor.name, await list_runs(registry, descriptor.name, wanted, limit=limit, cursor=cursor)

    name, page = asyncio.run(read())
    if as_json:
        screen.json(page)
        return ExitCode.OK
    if not page.runs:
        such = "" if wanted == RunFilter() else "such "
        among = f" among the first {MOST_LOOKED_AT} keys that were looked at" if page.cursor else ""
        screen.say(f"{name} has no {such}runs{among}.")
    else:
        _show_page(page, screen)
    if page.cursor:
        options = "".join(f" --{name} '{value}'" for name, value in _options(wanted))
        screen.say(f"more: headrace runs list {name}{options} --limit {limit} --cursor {page.cursor}", "dim")
    return ExitCode.OK


def _show_page(page: RunPage, screen: Screen) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("began", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    table.add_column("number", justify="right")
    for run in page.runs:
        style = "green" if run.status == RUNNING else "dim"
        table.add_row(Text(run.address), Text(run.status, style), ago(run.began), ago(run.ended), str(run.number))
    screen.show(table)


def _options(wanted: RunFilter) -> list[tuple[str, str]]:
    """As they are typed; times can't be told so, and are left to who types."""
    options = [("status", wanted.status or ""), ("key-prefix", wanted.key_prefix)]
    return [(name, value) for name, value in options if value]


def show_one(address: str, loaded: Loaded, screen: Screen, *, as_json: bool) -> ExitCode:
    """Print all of a run: status, states, result.

    Args:
        address: `workflow/key`; of an unkeyed workflow `workflow`.
        loaded: Settings.
        screen: Where it is printed.
        as_json: For programs.

    Raises:
        UsageError: It names a key only.
        NothingRuns: There is no such run.
        HeadraceError: See `found_workflow`.
    """
    name, slash, key = address.partition("/")
    running = sorted({run.workflow for run in Project(Path.cwd()).running()})
    if running and not slash and name not in running:
        raise UsageError(f"A run is named WORKFLOW/KEY. Type: headrace runs show {running[0]}/{name}")

    async def read() -> RunView:
        async with found_workflow(name, loaded, Project(Path.cwd()), "runs show") as (registry, descriptor):
            if descriptor.keyed and not slash:
                raise UsageError(f"Say which run: headrace runs show {name}/KEY\nThere are: headrace runs list {name}")
            view = await get_run(registry, descriptor, key if descriptor.keyed else "")
        if view is None:
            raise NothingRuns(f"{name} has no run {key!r}. There are: headrace runs list {name}")
        return view

    view = asyncio.run(read())
    if as_json:
        screen.json(view)
        return ExitCode.OK
    style = "green" if view.status == RUNNING else ""
    ended = f", {ago(view.ended)}" if view.ended is not None else ""
    ended += f" by node {view.ended_by}" if view.ended_by else ""
    number = "about to begin in" if view.status == ACCEPTED else f"run {view.number} of"
    head = Text.assemble((address, "bold"), "  ", (view.status, style), f"{ended}  {number} partition {view.partition}")
    screen.write(head)
    if view.began is not None:
        screen.say(f"began {ago(view.began)}", "dim")
    for wait in view.waits:
        until = "" if wait.until is None else f", for another {duration(wait.until / 1000 - time.time())}"
        screen.say(f"waits at {wait.name}{until}")
    if view.void:
        screen.say(f"{view.void} of its events stood still when it was ended, and are no more", "dim")
    for title, value in _values(view):
        screen.say(title, "cyan")
        screen.say(msgspec.json.format(bytes(value), indent=2).decode())
    return ExitCode.OK


def _values(view: RunView) -> list[tuple[str, Any]]:
    values: list[tuple[str, Any]] = [(f"node {name}", state) for name, state in view.nodes.items()]
    if view.state is not None:
        values.append(("state, shared by its nodes", view.state))
    if view.result is not None:
        values.append(("result", view.result))
    return values
