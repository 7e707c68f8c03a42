"""What nodes take, as others see it: for those who have one executed by itself, without the user's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .codec import type_name
from .schemas import schema_of

if TYPE_CHECKING:
    from .plan import Plan


class NodeInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node, or a wait, of a workflow."""

    name: str
    refused: bool = False
    """It can't be executed by itself: a wait, a join, a `Map`, a workflow that is a node, a node inside of one, or a
    node whose type JSON alone does not tell."""
    type: str = ""
    """Name of the class of its events' data."""
    schema: dict[str, Any] | None = None
    """JSON Schema of them; None: only workers can check them."""


def inputs_of(plan: Plan) -> tuple[NodeInput, ...]:
    """All nodes and waits of a workflow."""
    nodes = [
        NodeInput(name=node.name, refused=True)
        if node.takes < 0
        else NodeInput(
            name=node.name, type=type_name(plan.types[node.takes].type), schema=schema_of(plan.types[node.takes].type)
        )
        for node in plan.nodes
    ]
    return (*nodes, *(NodeInput(name=wait.name, refused=True) for wait in plan.waits))
