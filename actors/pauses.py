"""Sources and nodes that a person has paused, as the store has them: they stay so, whoever ends or starts meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from headrace.actors.spec import Pause
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.durability import Durability
from headrace.workflows.effects import Effect, effect
from headrace.workflows.keyspace import incarnation_key

ALL: Final = ""
"""Instead of a source's name: all sources of the workflow."""


def paused_key(workflow: str) -> str:
    """Hash: what is paused (`*`: all; `node:` and a node's name) -> since when, and by whom; goes with the workflow."""
    return f"hr:{{{workflow}}}:paused"


async def put_pauses(registry: Registry, workflow: str, pauses: Collection[Pause]) -> None:
    """Pause sources and nodes; one that is paused already stays so since when, and by whom, it was.

    Raises:
        StoreUnavailable: Ask again.
    """
    for pause in pauses:
        with store_errors(registry.address), effect(Effect.PAUSE):
            answer: Any = registry.client.hsetnx(paused_key(workflow), _field(pause.name), _encode(pause))
            await answer


async def end_pauses(registry: Registry, workflow: str, names: Collection[str]) -> None:
    """Let these (`Pause.name`; `ALL` among them, or not) go on; one that is not paused stays as it is.

    Raises:
        StoreUnavailable: Ask again.
    """
    if names:
        with store_errors(registry.address), effect(Effect.PAUSE):
            answer: Any = registry.client.hdel(paused_key(workflow), *map(_field, names))
            await answer


async def get_pauses(registry: Registry, workflow: str) -> tuple[Pause, ...]:
    """What is paused, by name; all of it first.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        answer: Any = registry.client.hgetall(paused_key(workflow))
        found: dict[bytes, bytes] = await answer
    pauses = [msgspec.json.decode(blob, type=Pause) for blob in found.values()]
    return tuple(sorted(pauses, key=lambda pause: pause.name))


async def confirm_pauses(registry: Registry, workflow: str, durability: str) -> None:
    """Wait until what was written a moment ago survives a restart of the store, at the workflow's level.

    Raises:
        NotDurable: It does not, yet; ask again.
        StoreUnavailable: Ask again.
    """
    await registry.confirm(incarnation_key(workflow), Durability.parse(durability))  # a text with the same hash tag


def _field(name: str) -> str:
    return name or "*"


def _encode(pause: Pause) -> bytes:
    return msgspec.json.encode(pause)
