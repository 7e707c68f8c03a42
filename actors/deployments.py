"""What is to run, as it lies in the store: written by whoever starts a workflow, read by its supervisor."""

from __future__ import annotations

import msgspec

from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.keyspace import incarnation_key


def deployment_key(workflow: str) -> str:
    """Key of a workflow's deployment; removed with the workflow."""
    return f"hr:{{{workflow}}}:deployment"


async def claim_incarnation(registry: Registry, workflow: str, candidate: str) -> str:
    """The id that tells this workflow from an earlier one of its name: the first one claimed stays.

    What lives outside the store and is meant for one life of a workflow (Kafka's transactional ids, markers)
    carries it, so that a workflow that was removed and deployed again takes nothing of the old one for its own.

    Args:
        registry: The store.
        workflow: Its name.
        candidate: A random text, taken when there is no id yet.

    Raises:
        StoreUnavailable: Ask again.
    """
    key = incarnation_key(workflow)
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(key, candidate, nx=True)
    with store_errors(registry.address):
        stored: bytes | None = await registry.client.get(key)  # type: ignore[assignment]  # its types say: text
    return candidate if stored is None else stored.decode()


async def put_deployment(registry: Registry, deployment: Deployment) -> None:
    """Say what is to run; the last one said counts.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(deployment_key(deployment.workflow), msgspec.json.encode(deployment))


async def get_deployment(registry: Registry, workflow: str) -> Deployment | None:
    """What is to run; None when nobody has said so.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        blob = await registry.client.get(deployment_key(workflow))
    return None if blob is None else msgspec.json.decode(blob, type=Deployment)
