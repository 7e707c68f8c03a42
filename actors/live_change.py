"""Has a running workflow go over to another deployment: said in the store, where its supervisor reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import msgspec

from headrace.actors.deployments import put_deployment
from headrace.actors.spec import ClusterStatus, Deployment
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.workflows.errors import HeadraceError

_PERIOD: Final = 0.1
OnStatus = Callable[[ClusterStatus], None]


class NotTaken(HeadraceError):
    """What was to run did not come up in time; what ran before runs on, and is what the store says again.

    Attributes:
        workflow: Its name.
        lines: What was missing, as far as its supervisor has told.
    """

    def __init__(self, workflow: str, waited: float, lines: tuple[str, ...]) -> None:
        self.workflow, self.waited, self.lines = workflow, waited, lines
        told = "\n".join(lines) or "Its supervisor has told nothing."
        super().__init__(
            f"{workflow}: what was to run next is not up after {waited:.0f} s. Nothing has changed: what ran before"
            f" runs on.\n{told}"
        )

    def __reduce__(self) -> tuple[type[NotTaken], tuple[str, float, tuple[str, ...]]]:
        return type(self), (self.workflow, self.waited, self.lines)


class NoSuchNode(HeadraceError):
    """A workflow has no actors of a node of that name.

    Attributes:
        workflow: Its name.
        node: What was asked for.
        known: Names of the nodes that have actors of their own.
    """

    def __init__(self, workflow: str, node: str, known: tuple[str, ...]) -> None:
        self.workflow, self.node, self.known = workflow, node, known
        there = ", ".join(known) or "none: all run inside the workers, so --workers is what scales them"
        super().__init__(f"{workflow} has no actors of a node {node}. Nodes with actors of their own: {there}.")

    def __reduce__(self) -> tuple[type[NoSuchNode], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.workflow, self.node, self.known)


def scaled(before: Deployment, workers: int | None, replicas: Mapping[str, int]) -> Deployment:
    """The same with so many workers, and replicas of nodes; what is not said stays.

    Args:
        before: What runs.
        workers: How many; None: as many as before.
        replicas: Name of a node (of nodes fused into one actor: of any of them) -> how many.

    Raises:
        NoSuchNode: It has no actors of that name.
    """
    units = list(before.units)
    for node, count in replicas.items():
        places = [place for place, unit in enumerate(units) if node == unit.name or node in unit.name.split("+")]
        if not places:
            raise NoSuchNode(before.workflow, node, tuple(unit.name for unit in units))
        for place in places:
            units[place] = msgspec.structs.replace(units[place], replicas=count)
    return msgspec.structs.replace(before, workers=workers or before.workers, units=tuple(units))


async def change_live(
    registry: Registry,
    before: Deployment,
    after: Deployment,
    *,
    within: timedelta,
    on_status: OnStatus | None = None,
) -> ClusterStatus:
    """Say what is to run, and wait until it does, and nothing of before is left.

    Args:
        registry: The store.
        before: What runs.
        after: What is to run; with as many partitions.
        within: How long it may take to come up; then what ran before is said again.
        on_status: Called with each status document meanwhile.

    Raises:
        NotTaken: It did not come up.
        StoreUnavailable: The store does not answer; it may have been said.
    """
    wanted = following(before, after)
    await put_deployment(registry, wanted)
    started, status, was_up = time.monotonic(), None, False
    while True:
        status = await _status(registry, before.workflow) or status
        if status is not None:
            was_up = was_up or status.revision == wanted.revision
            if on_status is not None:
                on_status(status)
            if was_up and status.ready and not status.coming:
                return status
        waited = time.monotonic() - started
        if waited > within.total_seconds() and not was_up:
            await put_deployment(registry, following(wanted, before))
            raise NotTaken(before.workflow, waited, _missing(status))
        if waited > 2 * within.total_seconds():
            raise NotTaken(before.workflow, waited, _missing(status))
        await asyncio.sleep(_PERIOD)


def following(before: Deployment, after: Deployment) -> Deployment:
    """Said after `before`, of the same life of the workflow."""
    return msgspec.structs.replace(after, revision=before.revision + 1, incarnation=before.incarnation)


async def _status(registry: Registry, workflow: str) -> ClusterStatus | None:
    document = await registry.status(workflow, PROCESS)
    return None if document is None else msgspec.convert(document, ClusterStatus)


def _missing(status: ClusterStatus | None) -> tuple[str, ...]:
    if status is None:
        return ()
    lines = [status.coming] if status.coming else []
    return (*lines, *(f"{problem.where}: {problem.sentence}" for problem in status.problems))
