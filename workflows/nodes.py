"""Base classes for nodes: user code that processes one event, or a batch, with its state."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Generic

from typing_extensions import TypeVar

from headrace.workflows.actions import Reject, Result, Timer
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.settings import NO_SETTINGS, Settings

In = TypeVar("In")
State = TypeVar("State", default=None)
Out = TypeVar("Out", default=None)


class _Lifecycle:
    """What nodes of both kinds share."""

    settings: Settings = NO_SETTINGS
    """Settings and secrets of the workflow, by name; there from `open` on, unless the class has its own `settings`."""

    async def open(self) -> None:
        """Load what processing needs (a model, a connection). Called once, in the actor, before any event.

        What it sets on `self` is never sent anywhere. An error keeps the node from starting; it is tried again.
        """

    async def close(self) -> None:
        """Let go of it. Called when the actor stops in an orderly way; not when it is killed."""


class Node(_Lifecycle, Generic[In, State, Out]):
    """Processes one event at a time.

    Type parameters: data of its events, state (default: none), what it returns (default: nothing).
    Annotate the return type of `process` as exactly as you can: routes are checked against it.

    Examples:
        >>> class Count(Node[str, dict[str, int], None]):
        ...     def process(self, event: Event[str], ctx: Context[dict[str, int]]) -> None:
        ...         ctx.state[event.data] = ctx.state.get(event.data, 0) + 1
    """

    def process(self, event: Event[In], ctx: Context[State, Any]) -> Result[Out] | Awaitable[Result[Out]]:
        """Process one event. May be `async`.

        Called once per event, in order for each key. What it returns goes on: an action sends the event
        on by that route, data goes on itself, a list fans out, None ends the path; `Complete` and
        `Terminate` end the run.

        Raises:
            Reject: The event goes to the dead letters, without another attempt.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process method")

    def on_timer(self, timer: Timer, ctx: Context[State, Any]) -> Result[Out] | Awaitable[Result[Out]]:
        """A timer that this node set for this run fell due (later release). Returns as `process` does."""
        raise NotImplementedError(f"{type(self).__name__} has no on_timer method")


class BatchNode(_Lifecycle, Generic[In, State, Out]):
    """Processes several events at once, of different runs: for models that are fast on batches."""

    def process(
        self, events: Sequence[Event[In]], ctxs: Sequence[Context[State, Any]]
    ) -> Sequence[Result[Out] | Reject] | Awaitable[Sequence[Result[Out] | Reject]]:
        """Process a batch. May be `async`.

        Args:
            events: At most `batch_size` of them.
            ctxs: One context for each event, in the same order.

        Returns:
            One result for each event, in the same order; a `Reject` in the place of an event that must
            not be tried again. After an exception the events are processed singly.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process method")
