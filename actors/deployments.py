"""What is to run, as it lies in the store: written by whoever starts a workflow, read by its supervisor."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from headrace.actors.spec import Deployment
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.key_format import KEY_FORMAT, KeyFormat, check_format
from headrace.workflows.keyspace import incarnation_key

_CLAIM: Final = Script(Path(__file__).parent / "scripts" / "claim.lua")
CHANGE_MS = 90_000
"""Milliseconds after which a change that was never finished (its process was killed) lets others go on."""


class ChangeUnderWay(HeadraceError):
    """Somebody else deploys, stops or removes the workflow at this moment.

    Attributes:
        workflow: Its name.
        who: Host and process.
    """

    def __init__(self, workflow: str, who: str) -> None:
        self.workflow, self.who = workflow, who
        super().__init__(
            f"{workflow} is being changed by {who}. Wait until that is done; a change that was killed half-way"
            f" lets go after {CHANGE_MS // 1000} s."
        )

    def __reduce__(self) -> tuple[type[ChangeUnderWay], tuple[str, str]]:
        return type(self), (self.workflow, self.who)


def deployment_key(workflow: str) -> str:
    """Key of a workflow's deployment; removed with the workflow."""
    return f"hr:{{{workflow}}}:deployment"


def stopped_key(workflow: str) -> str:
    """Key that exists while a deployed workflow is not to run."""
    return f"hr:{{{workflow}}}:stopped"


def change_key(workflow: str) -> str:
    """Key that exists while somebody deploys, stops or revives the workflow: who it is."""
    return f"hr:{{{workflow}}}:change"


async def claim_incarnation(registry: Registry, workflow: str, candidate: str) -> str:
    """The id that tells this workflow from an earlier one of its name: the first one claimed stays.

    What lives outside the store and is meant for one life of a workflow (Kafka's transactional ids, markers)
    carries it, so that a workflow that was removed and deployed again takes nothing of the old one for its own.
    With it the store is told which format the workflow's keys have.

    Args:
        registry: The store.
        workflow: Its name.
        candidate: A random text, taken when there is no id yet.

    Raises:
        KeyFormatUnknown: The store has the workflow in a format that this Headrace does not know.
        RestoreUnfinished: A backup of it is being restored.
        StoreUnavailable: Ask again.
    """
    await registry.check_format(workflow)
    said = format_document()
    with store_errors(registry.address):
        stored, found = await _CLAIM.write(registry.client, Effect.PUBLISH, incarnation_key(workflow), candidate, said)
    check_format(workflow, found)
    return str(stored.decode())


def format_document(restoring: str = "") -> bytes:
    """What the store is told of keys that this Headrace writes."""
    return msgspec.json.encode(KeyFormat(format=KEY_FORMAT, headrace=version("headrace"), restoring=restoring))


async def put_deployment(registry: Registry, deployment: Deployment) -> None:
    """Say what is to run, and that it is to run; the last one said counts.

    Raises:
        StoreUnavailable: Ask again.
    """
    workflow = deployment.workflow
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(deployment_key(workflow), msgspec.json.encode(deployment))
        await registry.client.delete(stopped_key(workflow))


async def get_deployment(registry: Registry, workflow: str) -> Deployment | None:
    """What is to run; None when nobody has said so.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        blob = await registry.client.get(deployment_key(workflow))
    return None if blob is None else msgspec.json.decode(blob, type=Deployment)


async def mark_stopped(registry: Registry, workflow: str) -> None:
    """A deployed workflow is not to run until it is deployed again: its supervisor ends it, nobody revives it.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(stopped_key(workflow), "1")


async def is_stopped(registry: Registry, workflow: str) -> bool:
    """Whether a deployed workflow is not to run."""
    with store_errors(registry.address):
        return bool(await registry.client.exists(stopped_key(workflow)))


async def begin_change(registry: Registry, workflow: str, who: str) -> None:
    """Be the only one who deploys, stops, removes or revives a workflow, until `end_change`.

    Args:
        registry: The store.
        workflow: Its name.
        who: Host and process, for others to read; the same one may begin again.

    Raises:
        ChangeUnderWay: Somebody else is at it.
        StoreUnavailable: Ask again.
    """
    key = change_key(workflow)
    with store_errors(registry.address), effect(Effect.PUBLISH):
        taken = await registry.client.set(key, who, nx=True, px=CHANGE_MS)
    if taken:
        return
    with store_errors(registry.address):
        holder: bytes | None = await registry.client.get(key)  # type: ignore[assignment]  # its types say: text
    if holder is not None and holder.decode() != who:
        raise ChangeUnderWay(workflow, holder.decode())
    with store_errors(registry.address), effect(Effect.PUBLISH):
        await registry.client.set(key, who, px=CHANGE_MS)


async def end_change(registry: Registry, workflow: str, who: str) -> None:
    """Let others go on; does nothing when somebody else has it meanwhile."""
    with store_errors(registry.address):
        holder: bytes | None = await registry.client.get(change_key(workflow))  # type: ignore[assignment]  # its types say: text
    if holder is not None and holder.decode() == who:
        with store_errors(registry.address), effect(Effect.PUBLISH):
            await registry.client.delete(change_key(workflow))
