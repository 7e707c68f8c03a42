"""What a node with timers is called by: `process` for events, `on_timer` for what it has set and not taken back."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from .actions import Timer
from .context import Context
from .events import Event
from .plan import NodePlan
from .timers import TimerError, TimerFiring


def with_timers(node: NodePlan) -> Callable[[Event[Any], Context[Any, Any]], Any]:
    """One callable for events and firings of a node's timers; of an async node a coroutine function."""
    process, on_timer, name = node.process, node.on_timer, node.name
    assert on_timer is not None

    def taken(firing: TimerFiring, context: Context[Any, Any]) -> bool:
        run: Any = context._run
        return not firing.generation or run.timers.take(name, firing.name, firing.generation)

    def checked(result: Any) -> Any:
        if isinstance(result, Enum):
            raise TimerError(f"{name}.on_timer returned the action {result}: there is no event that could go on by it")
        return result

    def at_once(event: Event[Any], context: Context[Any, Any]) -> Any:
        firing = event.data
        if firing.__class__ is not TimerFiring:
            return process(event, context)
        return checked(on_timer(Timer(firing.name, firing.due), context)) if taken(firing, context) else None

    async def waiting(event: Event[Any], context: Context[Any, Any]) -> Any:
        firing = event.data
        if firing.__class__ is not TimerFiring:
            return await process(event, context)
        return checked(await on_timer(Timer(firing.name, firing.due), context)) if taken(firing, context) else None

    return waiting if node.is_async else at_once
