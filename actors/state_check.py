"""The states in the store before another version runs on them: looked at, and, where that was asked for, forgotten.

`review_states` writes nothing. What writes does so only while nobody owns the partitions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.sources.routing import scan
from headrace.workflows.effects import Effect, effect
from headrace.workflows.plan import Plan
from headrace.workflows.state_review import StateReview, forgotten_renames

AT_ONCE: Final = 500
"""Keys that one step of a walk through the store looks at."""
SAMPLE: Final = 10_000
"""Runs that are looked at where a start must not wait for all of them."""
PROGRESS: Final = 100_000
"""A walk tells how far it is each time that it has seen so many runs."""


async def review_states(
    registry: Registry,
    plan: Plan,
    *,
    renames: Mapping[str, str] | None = None,
    limit: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> StateReview:
    """See what of the states in the store `plan` can't run on. Writes nothing.

    Args:
        registry: The store.
        plan: The other version.
        renames: Those of the version before: `Deployment.renames`.
        limit: How many running runs are looked at; None: all.
        on_progress: Told the number of runs seen so far, now and then.

    Raises:
        StoreUnavailable: Ask again.
    """
    review = StateReview(plan, forgotten_renames(renames or {}, plan))
    told = PROGRESS
    async for key, fields in _runs(registry, plan.name):
        review.look(_run_of(key), fields)
        if review.runs >= told:
            on_progress(review.runs)
            told += PROGRESS
        if limit is not None and review.runs >= limit:
            break
    return review


async def prepare_states(
    registry: Registry, plan: Plan, *, renames: Mapping[str, str] | None = None, drop: Collection[str] = ()
) -> int:
    """Make the states in the store ready for `plan`: take out what may be dropped, move what was renamed before.

    Both can be done again, whatever became of the try before. Only while nobody owns the partitions.

    Args:
        registry: The store.
        plan: The version that is to run.
        renames: Those of the version before: `Deployment.renames`.
        drop: Names of nodes (`@run`: what all share) whose states go, where the version has no place for them, or
            can't read them; `@wait:<name>`, `@timers:<node>`: runs go on without that wait, or those timers.

    Returns:
        How many states were dropped.

    Raises:
        StoreUnavailable: Ask again.
    """
    forgotten = forgotten_renames(renames or {}, plan)
    dropped = 0
    if not forgotten and not drop:
        return 0
    review = StateReview(plan, forgotten)
    async for key, fields in _runs(registry, plan.name):
        ready = review.ready(_run_of(key), fields, drop)
        for name, value in {**{new: fields[old] for old, new in ready.moves.items()}, **ready.writes}.items():
            with store_errors(registry.address), effect(Effect.PUBLISH):
                written: Any = registry.client.hset(key, name, value)
                await written
        dropped += len(ready.dropped) + len(ready.writes)
        await _take_out(registry, key, [*ready.dropped, *ready.moves, *ready.marks])
    return dropped


async def _take_out(registry: Registry, key: bytes, fields: list[str]) -> None:
    if fields:
        with store_errors(registry.address), effect(Effect.REMOVE):
            answer: Any = registry.client.hdel(key, *fields)
            await answer


def _run_of(key: bytes) -> str:
    return key.decode().partition("}:run:")[2]


async def _runs(registry: Registry, workflow: str) -> AsyncIterator[tuple[bytes, dict[str, bytes]]]:
    """The key and the hash of each run; one may come twice, as `SCAN` gives it."""
    place = 0
    while True:
        with store_errors(registry.address):
            place, keys = await scan(registry.client, place, f"hr:{{{workflow}/*}}:run:*", AT_ONCE)
            pipe = registry.client.pipeline(transaction=False)
            for key in keys:
                pipe.hgetall(key)
            rows: list[dict[bytes, bytes]] = await pipe.execute() if keys else []
        for key, row in zip(keys, rows, strict=True):
            if row:
                yield key, {name.decode(): value for name, value in row.items()}
        if not place:
            return
