"""`runs terminate` and `runs delete`: asks for it by way of the store, and waits until it is done."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from headrace.actors.audit import audit
from headrace.actors.run_beginning import ACCEPTED
from headrace.actors.run_control import Asking, drop_letters_of, to_terminate
from headrace.actors.run_views import RunFilter, RunRow, get_run, list_runs
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, NothingRuns, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import who
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.settings import Loaded
from headrace.workflows.control import ControlEvent
from headrace.workflows.durability import Durability
from headrace.workflows.keyspace import partition_of
from headrace.workflows.runs import RUNNING
from headrace.workflows.store import WorkflowDescriptor

log = structlog.get_logger(__name__)

DONE_WITHIN: Final = 30.0
"""Seconds for workers to do what is asked of them; it is done later, too."""
_AT_ONCE: Final = 1000
_NOBODY: Final = RunFilter(status=RUNNING)


def terminate(
    targets: Sequence[str],
    wanted: RunFilter,
    loaded: Loaded,
    screen: Screen,
    *,
    reason: str | None,
    everything: bool,
    yes: bool,
) -> ExitCode:
    """End runs, after asking, and wait until they have ended.

    Args:
        targets: Addresses of runs, or one name of a workflow whose runs `wanted` chooses.
        wanted: Which, if a keyed workflow is named.
        loaded: Settings.
        screen: Asks, and tells what was done.
        reason: Kept as the result of each.
        everything: All of the workflow's are meant if `wanted` chooses none.
        yes: Don't ask.

    Raises:
        UsageError: It is not clear which are meant, or nobody is there to be asked.
        NothingRuns: There is no such workflow or run.
        HeadraceError: See `found_workflow` and `Asking.ask`.
    """
    name, keys = _named(targets, "terminate")
    return asyncio.run(_terminate(name, keys, wanted, loaded, screen, reason=reason, everything=everything, yes=yes))


def delete(targets: Sequence[str], loaded: Loaded, screen: Screen, *, yes: bool) -> ExitCode:
    """Have keys forgotten, after asking; arguments and errors as of `terminate`."""
    name, keys = _named(targets, "delete")
    if not keys:
        raise UsageError(
            f"Say which: headrace runs delete {name}/KEY\nAll of a workflow goes by: headrace workflows remove {name}"
        )
    return asyncio.run(_delete(name, keys, loaded, screen, yes=yes))


def _named(targets: Sequence[str], verb: str) -> tuple[str, list[str]]:
    """Name of the workflow, and the keys, if runs are named."""
    parts = [target.partition("/") for target in targets]
    names = {name for name, _, _ in parts}
    if len(names) > 1:
        raise UsageError("Name runs of one workflow at a time.")
    keyed = [key for _, slash, key in parts if slash]
    if keyed and len(keyed) < len(parts):
        raise UsageError(f"Name runs, or one workflow: headrace runs {verb} {parts[0][0]}/KEY")
    return names.pop(), list(dict.fromkeys(keyed))


async def _terminate(
    name: str, keys: Sequence[str], wanted: RunFilter, loaded: Loaded, screen: Screen,
    *, reason: str | None, everything: bool, yes: bool,
) -> ExitCode:  # fmt: skip
    async with found_workflow(name, loaded, Project(Path.cwd()), "runs terminate") as (registry, descriptor):
        if descriptor.keyed and not keys and wanted == _NOBODY and not everything:
            raise UsageError(
                f"Say which: headrace runs terminate {name}/KEY, or {name} --older-than 7d, or {name} --all"
            )
        if keys and wanted != _NOBODY:
            raise UsageError("Name runs, or choose them by options: not both.")
        rows = await _meant(registry, descriptor, keys, wanted)
        if not rows:
            screen.say(f"{name} has no such runs that are running.")
            return ExitCode.OK
        what = f"{len(rows)} run{'' if len(rows) == 1 else 's'} of {name}" if descriptor.keyed else name
        question = f"End {what} at {registry.address}?"
        if not yes and not screen.confirm(question, "--yes"):
            screen.say("Nothing was ended.")
            return ExitCode.PROBLEMS
        why = reason or "no reason given"
        await audit(registry, name, "runs terminated", len(rows), who(), why)
        log.info("runs_terminated", workflow=name, count=len(rows), who=who(), why=why)
        async with _store(registry, descriptor) as store:
            asking = Asking(store)
            await asking.ask(to_terminate(rows, reason))
            if not await _is_done(asking, registry, name, screen):
                return ExitCode.PROBLEMS
        screen.say(f"Ended {what}.")
    return ExitCode.OK


async def _meant(
    registry: Registry, descriptor: WorkflowDescriptor, keys: Sequence[str], wanted: RunFilter
) -> list[RunRow]:
    """The runs that are running: those named, else all that are wanted."""
    if not descriptor.keyed:
        return [RunRow(workflow=descriptor.name, key="", partition=0, status=RUNNING, number=0)]
    rows: list[RunRow] = []
    for key in keys:
        view = await get_run(registry, descriptor, key)
        if view is None:
            raise NothingRuns(f"{descriptor.name} has no run {key!r}. There are: headrace runs list {descriptor.name}")
        if view.status == ACCEPTED:
            raise NothingRuns(f"The run {descriptor.name}/{key} is about to begin. Try again in a moment.")
        if view.status == RUNNING:
            row = RunRow(
                workflow=view.workflow, key=key, partition=view.partition, status=view.status, number=view.number
            )
            rows.append(row)
    cursor: str | None = None if keys else ""
    while cursor is not None:
        page = await list_runs(registry, descriptor.name, wanted, limit=_AT_ONCE, cursor=cursor)
        rows += page.runs
        cursor = page.cursor
    return list({(row.partition, row.key): row for row in rows}.values())


async def _delete(name: str, keys: Sequence[str], loaded: Loaded, screen: Screen, *, yes: bool) -> ExitCode:
    async with found_workflow(name, loaded, Project(Path.cwd()), "runs delete") as (registry, descriptor):
        if not descriptor.keyed:
            raise UsageError(
                f"{name} has a single run, without a key. All of it goes by: headrace workflows remove {name}"
            )
        what = f"{len(keys)} key{'' if len(keys) == 1 else 's'} of {name}"
        question = f"Forget {what} at {registry.address}: runs, states, dead letters, for good?"
        if not yes and not screen.confirm(question, "--yes"):
            screen.say("Nothing was deleted.")
            return ExitCode.PROBLEMS
        await audit(registry, name, "keys deleted", len(keys), who(), "by key")  # which, it must not say
        log.info("keys_deleted", workflow=name, count=len(keys), who=who())
        events: dict[int, list[ControlEvent]] = defaultdict(list)
        for key in keys:
            events[partition_of(key, descriptor.partitions)].append(ControlEvent("delete", key))
        async with _store(registry, descriptor) as store:
            asking = Asking(store)
            await asking.ask(events)
            done = await _is_done(asking, registry, name, screen)
            letters = await drop_letters_of(store, frozenset(keys), descriptor.partitions)
        if not done:
            return ExitCode.PROBLEMS
        also = f", and {letters} dead letter{'' if letters == 1 else 's'}" if letters else ""
        screen.say(f"Deleted {what}{also}.")
    return ExitCode.OK


def _store(registry: Registry, descriptor: WorkflowDescriptor) -> Store:
    level = Durability.parse(descriptor.durability)
    return Store(registry.url, descriptor.name, connections=2, durability=level)


async def _is_done(asking: Asking, registry: Registry, name: str, screen: Screen) -> bool:
    """Wait until it is done, if anybody is there to do it; say so if not."""
    if not await is_running(registry, name):
        screen.say(f"{name} does not run: it is done once it is started. Then type it again, to be sure.")
        return False
    if not await asking.done(DONE_WITHIN):
        screen.say(
            f"Not done within {DONE_WITHIN:.0f} s: it is as soon as what is under way is. Look: headrace status {name}"
        )
        return False
    return True
