"""What people have done to a workflow's data: a line each, in a stream that goes when the workflow is removed."""

from __future__ import annotations

from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.keyspace import audit_key

_KEPT: Final = 10_000


async def audit(registry: Registry, workflow: str, what: str, count: int, who: str, why: str) -> None:
    """Write a line, before it is done.

    Args:
        registry: The store.
        workflow: Name of the workflow.
        what: That is done.
        count: To how many.
        who: The person.
        why: What was asked for. No personal data: the line outlives what it speaks of.

    Raises:
        StoreUnavailable: Ask again.
    """
    said: Any = {"what": what, "count": str(count), "who": who, "why": why}
    with store_errors(registry.address), effect(Effect.AUDIT):
        await registry.client.xadd(audit_key(workflow), said, maxlen=_KEPT, approximate=True)
