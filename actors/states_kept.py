"""A new version in the place of one before: refused where it would lose states that nobody lets go."""

from __future__ import annotations

from collections.abc import Callable, Collection

from headrace.actors.spec import Deployment
from headrace.actors.state_check import prepare_states, review_states
from headrace.actors.store_registry import Registry
from headrace.workflows.plan import Plan
from headrace.workflows.state_review import StateReview, StatesLost

__all__ = ["StatesLost", "make_ready", "refuse_loss"]


async def refuse_loss(
    registry: Registry,
    before: Deployment | None,
    plan: Plan,
    *,
    drop: Collection[str] = (),
    limit: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> StateReview:
    """See that every state in the store has a place in the new version, which can read it. Writes nothing.

    Args:
        registry: The store.
        before: What ran last; None: nobody knows.
        plan: The new version.
        drop: Names of nodes (`@run`: what all share) whose states may go.
        limit: How many running runs are looked at; None: all.
        on_progress: Told the number of runs seen so far, now and then.

    Returns:
        What will be lost: nothing but what may go.

    Raises:
        StatesLost: It would lose others.
        StoreUnavailable: Ask again.
    """
    renames = {} if before is None else before.renames
    review = await review_states(registry, plan, renames=renames, limit=limit, on_progress=on_progress)
    lost = review.lost(besides=drop)
    if lost is not None:
        raise lost
    return review


async def make_ready(registry: Registry, before: Deployment | None, plan: Plan, *, drop: Collection[str] = ()) -> int:
    """Take out the states that may go, and finish renames of the version before that the new one does not repeat.

    Only while the workflow does not run. Returns how many states went.

    Raises:
        StoreUnavailable: Ask again.
    """
    return await prepare_states(registry, plan, renames={} if before is None else before.renames, drop=drop)
