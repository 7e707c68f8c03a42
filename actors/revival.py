"""Brings deployed workflows back to a Ray cluster that has lost them: one try, in a process of its own.

Ray can't be connected to again in a process whose cluster was lost, so `headrace supervise` starts this for each
try: `python -m headrace.actors.revival`, an `Attempt` as JSON on standard input, a `Report` as JSON on the output.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Final, Literal, TypeAlias

import msgspec

from headrace.actors.deployments import ChangeUnderWay, begin_change, end_change, get_deployment, is_stopped
from headrace.actors.spec import Deployment, supervisor_name
from headrace.actors.store_registry import Registry
from headrace.workflows.errors import HeadraceError

Outcome: TypeAlias = Literal["revived", "there", "running", "stopped", "busy", "failed"]
"""What became of a workflow: brought back; Ray is about to restart its supervisor itself; somebody else was
quicker; it is not to run any more; somebody deploys or stops it; see the reason."""
_REASON: Final = 500
"""Characters."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried."""

    address: str
    """Of the Ray cluster."""
    redis_url: str
    workflows: tuple[str, ...]


class Revival(msgspec.Struct, frozen=True):
    """What became of one workflow."""

    workflow: str
    outcome: Outcome
    reason: str = ""


class Report(msgspec.Struct, frozen=True):
    """What became of an attempt."""

    revivals: tuple[Revival, ...] = ()
    error: str = ""
    """The Ray cluster or the store could not be used."""


def attempt(wanted: Attempt) -> Report:
    """Connect to the cluster, and start what it lacks."""
    from headrace.actors.ray_connection import connected  # noqa: PLC0415  it loads Ray, which nobody else here needs

    try:
        with connected(wanted.address):
            return Report(tuple(_revive(name, wanted.redis_url) for name in wanted.workflows))
    except HeadraceError as error:
        return Report(error=_short(error))


def _revive(workflow: str, redis_url: str) -> Revival:
    from headrace.actors.cluster import revive  # noqa: PLC0415  it loads Ray

    who = f"headrace supervise on {socket.gethostname()}, process {os.getpid()}"
    try:
        asyncio.run(_begin(workflow, redis_url, who))
    except ChangeUnderWay as error:
        return Revival(workflow, "busy", _short(error))
    try:
        outcome, deployment = asyncio.run(_look(workflow, redis_url))
        if deployment is None:
            return Revival(workflow, outcome)
        return Revival(workflow, "there" if revive(deployment) is None else "revived")
    except HeadraceError as error:
        return Revival(workflow, "failed", _short(error))
    finally:
        asyncio.run(_end(workflow, redis_url, who))


async def _begin(workflow: str, redis_url: str, who: str) -> None:
    async with Registry(redis_url, connections=1) as registry:
        await begin_change(registry, workflow, who)


async def _look(workflow: str, redis_url: str) -> tuple[Outcome, Deployment | None]:
    """Again, now that nobody else changes it."""
    async with Registry(redis_url, connections=1) as registry:
        deployment = await get_deployment(registry, workflow)
        if deployment is None or not deployment.cluster or await is_stopped(registry, workflow):
            return "stopped", None
        name = supervisor_name(workflow)
        if (await registry.leases([name]))[name] is not None:
            return "running", None
        return "revived", deployment


async def _end(workflow: str, redis_url: str, who: str) -> None:
    async with Registry(redis_url, connections=1) as registry:
        await end_change(registry, workflow, who)


def _short(error: Exception) -> str:
    return str(error)[:_REASON]


def main() -> int:
    """The child."""
    report = attempt(msgspec.json.decode(sys.stdin.buffer.read(), type=Attempt))
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
