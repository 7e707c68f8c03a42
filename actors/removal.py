"""Takes a workflow out for good: what the store has of it, and what it has left at Kafka."""

from __future__ import annotations

import msgspec

from headrace.actors.deployments import get_deployment
from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go."""

    workflow: str
    keys: int
    """Of the store."""
    lines: tuple[str, ...] = ()
    """What goes besides, for people."""
    deployment: Deployment | None = None
    topics: bool = False
    kafka: bool = True


async def what_goes(registry: Registry, workflow: str, *, topics: bool, kafka: bool) -> Removal:
    """Count what a removal would take out; nothing is changed."""
    deployment = await get_deployment(registry, workflow)
    return Removal(
        workflow=workflow,
        keys=await registry.count_workflow(workflow),
        deployment=deployment,
        topics=topics,
        kafka=kafka,
    )


async def remove_workflow(registry: Registry, removal: Removal) -> None:
    """Do it: Kafka first, as the store says what there is. May be done again where it broke off."""
    await registry.remove_workflow(removal.workflow)
