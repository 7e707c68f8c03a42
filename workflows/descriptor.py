"""A workflow as others than its workers see it, made from its plan."""

from __future__ import annotations

from typing import Final

from .codec import type_name, without_tombstone
from .fields import encoded_path
from .node_inputs import inputs_of
from .plan import Plan, SourcePlan
from .schemas import schema_of
from .store import SourceDescriptor, WorkflowDescriptor
from .topics import topics_of

_TAKEN_IN: Final = ("requests", "messages")
"""Kinds of the sources whose data come in by the gateway."""


def _key_in_json(source: SourcePlan, plan: Plan) -> str | None:
    if not isinstance(source.key, str):
        return None
    return encoded_path(without_tombstone(plan.types[source.type].type), source.key)


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
            key=_key_in_json(source, plan),
            capacity=getattr(source.source, "capacity", None),
            topic=topic if isinstance(topic := getattr(source.source, "topic", ""), str) else "",
            cluster=getattr(source.source, "cluster", None) or "",
            computed_key=callable(source.key),
            late=source.late,
            schema=schema_of(plan.types[source.type].type) if source.source.kind in _TAKEN_IN else None,
        )
        for source in plan.sources
    )
    return WorkflowDescriptor(
        name=plan.name, partitions=partitions, keyed=plan.keyed, version=version, sources=sources,
        durability=durability, nodes=tuple(node.name for node in plan.nodes), id_retention=plan.id_retention,
        topics=topics_of(plan), inputs=inputs_of(plan),
    )  # fmt: skip
