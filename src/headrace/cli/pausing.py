"""`pause` and `resume`: a person stops the sources of a workflow, and lets them go on. By way of the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from headrace.actors.pauses import ALL, confirm_pauses, end_pauses, get_pauses, put_pauses
from headrace.actors.spec import ClusterStatus, Pause
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.finding import found_workflow
from headrace.cli.person import who
from headrace.cli.project import Project
from headrace.cli.screen import Screen
from headrace.cli.stops import is_running
from headrace.cli.table import paused as sentence_of
from headrace.settings import Loaded
from headrace.workflows.store import WorkflowDescriptor

SETTLED_WITHIN: Final = 30.0
"""Seconds for workers to hear of it, and to finish what is in flight."""
_PERIOD: Final = 0.2


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a `pause` or `resume`; the document of `-o json`."""

    workflow: str
    paused: tuple[Pause, ...]
    """What is paused now."""
    changed: bool
    """Something was paused, or goes on, that was not so before."""
    running: bool
    at_rest: bool
    """All workers have heard of it; if all sources are paused, nothing is in flight any more."""


def pause(
    workflow: str, sources: Sequence[str], loaded: Loaded, project: Project, screen: Screen, *, as_json: bool
) -> ExitCode:
    """Pause a workflow, or some of its sources, and wait until what is in flight is committed.

    Args:
        workflow: Its name.
        sources: Names of sources; none: all of it.
        loaded: Settings: where the store is.
        project: The current folder's.
        screen: Where it is told.
        as_json: One document instead of text.

    Raises:
        NothingRuns: The store knows no such workflow.
        UsageError: It has no such source.
        StoreUnavailable: Ask again.
    """
    outcome = asyncio.run(_pause(workflow, sources, loaded, project))
    if as_json:
        screen.json(outcome)
    else:
        for row in outcome.paused:
            screen.show(sentence_of(row, workflow))
        screen.say(_rest_of(outcome))
    return ExitCode.OK if outcome.at_rest or not outcome.running else ExitCode.PROBLEMS


def resume(
    workflow: str, sources: Sequence[str], loaded: Loaded, project: Project, screen: Screen, *, as_json: bool
) -> ExitCode:
    """Let a workflow, or some of its sources, go on; see `pause`.

    Raises:
        NothingRuns: The store knows no such workflow.
        UsageError: It has no such source, or all of it is paused and only some was to go on.
        StoreUnavailable: Ask again.
    """
    outcome = asyncio.run(_resume(workflow, sources, loaded, project))
    if as_json:
        screen.json(outcome)
    else:
        for row in outcome.paused:
            screen.show(sentence_of(row, workflow))
        what = ", ".join(sources) or workflow
        done = "goes on" if outcome.running else "goes on once it is started"
        screen.say(f"{what} {done}." if outcome.changed else f"{what} was not paused.")
    return ExitCode.OK


async def _pause(workflow: str, sources: Sequence[str], loaded: Loaded, project: Project) -> Outcome:
    async with found_workflow(workflow, loaded, project, "pause") as (registry, descriptor):
        _refuse_unknown(descriptor, sources)
        before = await get_pauses(registry, workflow)
        since, by = time.time(), who()
        await put_pauses(registry, workflow, [Pause(source=source, since=since, by=by) for source in sources or [ALL]])
        return await _settled(registry, descriptor, before)


async def _resume(workflow: str, sources: Sequence[str], loaded: Loaded, project: Project) -> Outcome:
    async with found_workflow(workflow, loaded, project, "resume") as (registry, descriptor):
        _refuse_unknown(descriptor, sources)
        before = await get_pauses(registry, workflow)
        if sources and any(row.source == ALL for row in before):
            raise UsageError(
                f"All of {workflow} is paused, not only {', '.join(sources)}. Type: headrace resume {workflow}\n"
                "To keep the other sources paused, pause them by name first: headrace pause"
                f" {workflow} --source NAME"
            )
        await end_pauses(registry, workflow, _meant(before, sources))
        return await _settled(registry, descriptor, before)


def _meant(before: Collection[Pause], sources: Sequence[str]) -> list[str]:
    """What ends: those named; without a name the pause of all, or where there is none each of them."""
    if sources:
        return list(sources)
    named = [row.source for row in before]
    return [ALL] if ALL in named else named


def _refuse_unknown(descriptor: WorkflowDescriptor, sources: Sequence[str]) -> None:
    known = [source.name for source in descriptor.sources]
    unknown = [name for name in sources if name not in known]
    if unknown:
        raise UsageError(f"{descriptor.name} has no source {', '.join(unknown)}. It has: {', '.join(known) or 'none'}.")


async def _settled(registry: Registry, descriptor: WorkflowDescriptor, before: tuple[Pause, ...]) -> Outcome:
    """Wait until the workers do it; not at all where none run."""
    name = descriptor.name
    after = await get_pauses(registry, name)
    await confirm_pauses(registry, name, descriptor.durability)
    running, at_rest = await is_running(registry, name), False
    deadline = time.monotonic() + SETTLED_WITHIN
    while running and time.monotonic() < deadline:
        document = await registry.status(name, PROCESS)
        status = None if document is None else msgspec.convert(document, ClusterStatus)
        if at_rest := status is not None and status.paused == after and status.at_rest:
            break
        await asyncio.sleep(_PERIOD)
        running = await is_running(registry, name)
    return Outcome(workflow=name, paused=after, changed=before != after, running=running, at_rest=at_rest)


def _rest_of(outcome: Outcome) -> str:
    name = outcome.workflow
    if not outcome.running:
        return f"{name} does not run; it stays so paused when it is started."
    if not outcome.at_rest:
        return (
            f"Within {SETTLED_WITHIN:.0f} s not all that is in flight was finished, or not all workers have answered."
            f" Nothing new is taken. Look: headrace status {name}"
        )
    if any(row.source == ALL for row in outcome.paused):
        return "Nothing is in flight: all that was taken is committed, and its outputs have left."
    return "Nothing new is taken from there; other sources go on."
