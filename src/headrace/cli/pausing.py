"""`pause` and `resume`: a person stops sources or nodes of a workflow, and lets them go on. By way of the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from headrace.actors.pauses import ALL, confirm_pauses, end_pauses, get_pauses, put_pauses
from headrace.actors.spec import NODE, ClusterStatus, Pause
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


class Parts(msgspec.Struct, frozen=True):
    """What of a workflow is meant; all of it, if nothing is named."""

    sources: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """As `Pause.name` has them."""
        return [*self.sources, *(f"{NODE}{node}" for node in self.nodes)]


def pause(workflow: str, parts: Parts, loaded: Loaded, project: Project, screen: Screen, *, as_json: bool) -> ExitCode:
    """Pause a workflow, or some of its sources and nodes, and wait until what is in flight is committed.

    Args:
        workflow: Its name.
        parts: What of it.
        loaded: Settings: where the store is.
        project: The current folder's.
        screen: Where it is told.
        as_json: One document instead of text.

    Raises:
        NothingRuns: The store knows no such workflow.
        UsageError: It has no such source or node.
        StoreUnavailable: Ask again.
    """
    outcome = asyncio.run(_pause(workflow, parts, loaded, project))
    _tell(outcome, screen, _rest_of(outcome, parts), as_json=as_json)
    return ExitCode.OK if outcome.at_rest or not outcome.running else ExitCode.PROBLEMS


def resume(workflow: str, parts: Parts, loaded: Loaded, project: Project, screen: Screen, *, as_json: bool) -> ExitCode:
    """Let a workflow, or some of its sources and nodes, go on; see `pause`.

    Raises:
        NothingRuns: The store knows no such workflow.
        UsageError: It has no such source or node, or all of it is paused and only some was to go on.
        StoreUnavailable: Ask again.
    """
    outcome = asyncio.run(_resume(workflow, parts, loaded, project))
    what = ", ".join([*parts.sources, *parts.nodes]) or workflow
    done = "goes on" if outcome.running else "goes on once it is started"
    _tell(outcome, screen, f"{what} {done}." if outcome.changed else f"{what} was not paused.", as_json=as_json)
    return ExitCode.OK


def _tell(outcome: Outcome, screen: Screen, sentence: str, *, as_json: bool) -> None:
    if as_json:
        screen.json(outcome)
        return
    for row in outcome.paused:
        screen.show(sentence_of(row, outcome.workflow))
    screen.say(sentence)


async def _pause(workflow: str, parts: Parts, loaded: Loaded, project: Project) -> Outcome:
    async with _paused_before(workflow, parts, loaded, project, "pause") as (registry, descriptor, before):
        since, by = time.time(), who()
        sources = parts.sources if parts.names else [ALL]
        pauses = [Pause(source=source, since=since, by=by) for source in sources]
        pauses += [Pause(source="", node=node, since=since, by=by) for node in parts.nodes]
        await put_pauses(registry, workflow, pauses)
        return await _settled(registry, descriptor, before)


async def _resume(workflow: str, parts: Parts, loaded: Loaded, project: Project) -> Outcome:
    async with _paused_before(workflow, parts, loaded, project, "resume") as (registry, descriptor, before):
        if parts.sources and any(row.name == ALL for row in before):
            raise UsageError(
                f"All of {workflow} is paused, not only {', '.join(parts.sources)}. Type: headrace resume {workflow}\n"
                "To keep the other sources paused, pause them by name first: headrace pause"
                f" {workflow} --source NAME"
            )
        await end_pauses(registry, workflow, _meant(before, parts))
        return await _settled(registry, descriptor, before)


@asynccontextmanager
async def _paused_before(
    workflow: str, parts: Parts, loaded: Loaded, project: Project, verb: str
) -> AsyncIterator[tuple[Registry, WorkflowDescriptor, tuple[Pause, ...]]]:
    """The store, the workflow, which must have these parts, and what of it is paused."""
    async with found_workflow(workflow, loaded, project, verb) as (registry, descriptor):
        _refuse_unknown(descriptor.name, "source", [row.name for row in descriptor.sources], parts.sources)
        _refuse_unknown(descriptor.name, "node", descriptor.nodes, parts.nodes)
        yield registry, descriptor, await get_pauses(registry, workflow)


def _meant(before: Collection[Pause], parts: Parts) -> list[str]:
    """What ends: those named; without a name the pause of all, or where there is none each of them."""
    if parts.names:
        return parts.names
    named = [row.name for row in before]
    return [ALL] if ALL in named else named


def _refuse_unknown(workflow: str, kind: str, known: Collection[str], names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{workflow} has no {kind} {', '.join(unknown)}. It has: {', '.join(known) or 'none'}.")


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


def _rest_of(outcome: Outcome, parts: Parts) -> str:
    name = outcome.workflow
    if not outcome.running:
        return f"{name} does not run; it stays so paused when it is started."
    if not outcome.at_rest:
        return (
            f"Within {SETTLED_WITHIN:.0f} s not all that is in flight was finished, or not all workers have answered."
            f" Nothing new is taken. Look: headrace status {name}"
        )
    if parts.nodes and not parts.sources:
        return "Its events stand still before it, those of a key in order; all else goes on."
    if any(row.name == ALL for row in outcome.paused):
        return "Nothing is in flight: all that was taken is committed, and its outputs have left."
    return "Nothing new is taken from there; other sources go on."
