"""How a worker gets its readers: each source names the function that makes them, with what it needs from around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TypeAlias

from headrace.sources.reader import OnProblem, OnReady, Reader
from headrace.workflows.plan import SourcePlan

OnClosed: TypeAlias = Callable[[int, int], None]
"""Called with a partition and a source's index: the source is closed, and all that was in it is pulled."""


class Clock(Protocol):
    """The store's time, which all workers share."""

    def __call__(self) -> Awaitable[int]:
        """Milliseconds since 1970 UTC; raises `StoreUnavailable` while the store is away."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a reader needs to know of the worker that it feeds."""

    workflow: str
    partitions: int
    """How many the workflow has."""
    keyed: bool
    redis_url: str
    clock: Clock
    on_ready: OnReady
    on_problem: OnProblem
    on_closed: OnClosed


Feeder: TypeAlias = Callable[[Sequence[SourcePlan], Surroundings], Sequence[Reader]]
"""Makes the readers of all sources of a workflow that name it; called once in a worker, on its loop."""


def readers_of(sources: Sequence[SourcePlan], surroundings: Surroundings) -> list[Reader]:
    """The readers of these sources, in the order in which their feeders first come."""
    by_feeder: dict[str, list[SourcePlan]] = {}
    for plan in sources:
        by_feeder.setdefault(plan.source.feeder, []).append(plan)
    readers: list[Reader] = []
    for name, plans in by_feeder.items():
        module, _, function = name.partition(":")
        feeder: Feeder = getattr(import_module(module), function)
        readers += feeder(plans, surroundings)
    return readers
