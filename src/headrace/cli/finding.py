"""Finds the workflow and the store that a verb means: by name, or the only one there is."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.actors.store_registry import Registry
from headrace.cli.exits import NothingRuns, UsageError
from headrace.cli.overview import urls_of
from headrace.cli.project import Project
from headrace.settings import Loaded
from headrace.workflows.store import WorkflowDescriptor


@asynccontextmanager
async def found_workflow(
    workflow: str | None, loaded: Loaded, project: Project, verb: str
) -> AsyncIterator[tuple[Registry, WorkflowDescriptor]]:
    """The store that knows a workflow, and what it knows of it.

    Args:
        workflow: Name; None: the only one that runs from here, or that the store has.
        loaded: Settings.
        project: The current folder's.
        verb: What was typed, for messages: `runs list`.

    Raises:
        UsageError: There are several, or no store is known.
        NothingRuns: There is no such workflow.
        StoreUnavailable: The store does not answer.
    """
    urls = urls_of(workflow, loaded, project, verb)
    if workflow is None and len(running := {run.workflow for run in project.running()}) == 1:
        workflow = running.pop()
    async with Registry(urls[0], connections=2) as registry:
        yield registry, await _descriptor(registry, workflow, verb)


async def _descriptor(registry: Registry, workflow: str | None, verb: str) -> WorkflowDescriptor:
    known = await registry.workflows()
    name = workflow or _only(known, registry.address, verb)
    descriptor = await registry.workflow(name)
    if descriptor is None:
        raise NothingRuns(f"The store at {registry.address} knows no workflow {name}. {_instead(name, known)}")
    return descriptor


def _only(known: Sequence[str], address: str, verb: str) -> str:
    if not known:
        raise NothingRuns(f"The store at {address} knows no workflow. Run one: headrace dev flow.py")
    if len(known) > 1:
        raise UsageError(
            f"The store at {address} has several workflows: {', '.join(known)}.\n"
            f"Say which one, for example: headrace {verb} {known[0]}"
        )
    return known[0]


def _instead(name: str, known: Sequence[str]) -> str:
    if not known:
        return "It knows none."
    close = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {close[0]}?" if close else f"It knows: {', '.join(known)}."
