"""A workflow as others than its workers see it, made from its plan."""

from __future__ import annotations

from .codec import type_name
from .plan import Plan
from .store import SourceDescriptor, WorkflowDescriptor


def descriptor_of(plan: Plan, partitions: int, version: str = "", *, durability: str = "fast") -> WorkflowDescriptor:
    """What gateways, senders and the command line need to know of a workflow.

    Args:
        plan: The compiled workflow.
        partitions: How many partitions it has where it runs.
        version: Of its deployment.
        durability: Level at which its requests and events of channels count.
    """
    sources = tuple(
        SourceDescriptor(
            kind=source.source.kind,
            name=source.name,
            type=type_name(plan.types[source.type].type),
            key=source.key if isinstance(source.key, str) else None,
            capacity=getattr(source.source, "capacity", None),
        )
        for source in plan.sources
    )
    return WorkflowDescriptor(
        name=plan.name, partitions=partitions, keyed=plan.keyed, version=version, sources=sources, durability=durability
    )
