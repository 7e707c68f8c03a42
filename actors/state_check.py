"""Whether states in the store fit the types of another version of the workflow; and forgetting those that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final

import msgspec

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.sources.routing import scan
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import CodecError
from headrace.workflows.plan import Plan, StateCodec
from headrace.workflows.runs import SHARED_FIELD

AT_ONCE: Final = 500
"""Runs whose states are read in one step."""


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """A state that another version can't read."""

    run: str
    """Its key."""
    field: str
    """Of the run's hash: `node:<name>` or `state`."""
    reason: str

    @property
    def sentence(self) -> str:
        """Which state, and why, for people."""
        what = "shared state" if self.field == SHARED_FIELD else f"state of {self.field.removeprefix('node:')}"
        return f"the {what} of run {self.run!r} does not fit: {self.reason}"


async def misfits(registry: Registry, plan: Plan, *, limit: int = 10_000) -> list[Misfit]:
    """States that `plan` can't read, of the first runs that are found.

    Args:
        registry: The store.
        plan: The other version.
        limit: How many runs are looked at.

    Raises:
        StoreUnavailable: Ask again.
    """
    codecs = _codecs(plan)
    found: list[Misfit] = []
    seen = 0
    async for key, states in _states(registry, plan.name, codecs):
        seen += 1
        run = key.decode().partition("}:run:")[2]
        found += [Misfit(run=run, field=field, reason=reason) for field, reason in _wrong(codecs, states)]
        if seen >= limit:
            break
    return found


async def forget_misfits(registry: Registry, plan: Plan) -> int:
    """Take out all states that `plan` can't read: their nodes begin anew. Only while nobody owns the partitions.

    Returns:
        How many there were.

    Raises:
        StoreUnavailable: Ask again.
    """
    codecs = _codecs(plan)
    forgotten = 0
    async for key, states in _states(registry, plan.name, codecs):
        fields = [field for field, _ in _wrong(codecs, states)]
        if fields:
            with store_errors(registry.address), effect(Effect.REMOVE):
                answer: Any = registry.client.hdel(key, *fields)
                forgotten += int(await answer)
    return forgotten


async def forget_fields(registry: Registry, workflow: str, fields: Collection[str]) -> int:
    """Take these states out of all runs: no node of the new version has them. Only while nobody owns the partitions.

    Returns:
        How many there were.

    Raises:
        StoreUnavailable: Ask again.
    """
    forgotten = 0
    async for key, states in _states(registry, workflow, list(fields)):
        if states:
            with store_errors(registry.address), effect(Effect.REMOVE):
                answer: Any = registry.client.hdel(key, *states)
                forgotten += int(await answer)
    return forgotten


async def runs_with(registry: Registry, workflow: str, fields: Collection[str]) -> dict[str, int]:
    """Field -> how many runs hold a state there; fields that no run has are left out."""
    counts: dict[str, int] = {}
    async for _, states in _states(registry, workflow, list(fields)):
        for field in states:
            counts[field] = counts.get(field, 0) + 1
    return counts


def _codecs(plan: Plan) -> dict[str, StateCodec]:
    codecs = {f"node:{node.name}": node.state for node in plan.nodes if node.state is not None}
    return codecs if plan.run_state is None else {**codecs, SHARED_FIELD: plan.run_state}


def _wrong(codecs: Mapping[str, StateCodec], states: Mapping[str, bytes]) -> list[tuple[str, str]]:
    problems = []
    for field, blob in states.items():
        try:
            codecs[field].decode(blob)
        except (CodecError, msgspec.MsgspecError, ValueError) as error:
            problems.append((field, str(error)))
    return problems


async def _states(
    registry: Registry, workflow: str, fields: Collection[str]
) -> AsyncIterator[tuple[bytes, dict[str, bytes]]]:
    """The hash of each run, and those of its states that are asked for."""
    names = list(fields)
    place = 0
    while names:
        with store_errors(registry.address):
            place, keys = await scan(registry.client, place, f"hr:{{{workflow}/*}}:run:*", AT_ONCE)
            pipe = registry.client.pipeline(transaction=False)
            for key in keys:
                pipe.hmget(key, names)
            rows: list[list[bytes | None]] = await pipe.execute() if keys else []
        for key, row in zip(keys, rows, strict=True):
            yield key, {name: blob for name, blob in zip(names, row, strict=True) if blob is not None}
        if not place:
            return
