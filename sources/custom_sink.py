"""Sinks of your own: a class that says where to, and one that writes there."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Generic

import msgspec
from typing_extensions import TypeVar

from headrace.workflows.actions import Reject
from headrace.workflows.ports import Sink

D = TypeVar("D")


class Message(msgspec.Struct, Generic[D], frozen=True, gc=False):
    """What a sink of yours is to write.

    Examples:
        >>> Message("too hot", id="readings/3/17.0", key="s1", time=datetime(2026, 1, 1)).data
        'too hot'
    """

    data: D
    id: str
    """The same in every repeat: give it to the other side as a key by which it can leave repeats out."""
    key: str
    """The run it comes from; "" in an unkeyed workflow."""
    time: datetime
    """Of its event (aware, UTC)."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


class Writer(ABC, Generic[D]):
    """Writes to one place for one worker; made by `CustomSink.open`.

    Has a thread of its own, with an event loop; every method may be `async` or not.
    """

    @abstractmethod
    def send(
        self, messages: Sequence[Message[D]]
    ) -> Sequence[Reject | None] | Awaitable[Sequence[Reject | None] | None] | None:
        """Write all of them, so that they are safe at the other side.

        Called with what is committed and durable, never while an earlier call runs. The messages of a key come in their
        order; a message comes again, with the same id, when a process died before it was ticked off.

        Args:
            messages: At least one, at most `CustomSink.batch`.

        Returns:
            None if all are written; else one entry for each: None, or a `Reject` for one that the other side will never
            take. That one becomes a dead letter, the others count as written.

        Raises:
            Exception: Not now. Whatever it raises is named in the status; the writer is closed, another one opened, and
                these messages are sent again, with growing pauses, until it works. Other sinks go on.
        """

    def close(self) -> Awaitable[None] | None:
        """Let go of what is open. Called once, whatever happened before; what it raises goes to the log."""


class CustomSink(Sink[D], ABC, Generic[D]):
    """Base of a sink of your own: each message arrives at least once, with an id. It is configuration only.

    Args:
        type: What it takes.
        name: Unique within the workflow; what waits in the outbox names it, so keep it.

    Examples:
        >>> class Printer(CustomSink[str]):
        ...     def open(self) -> Writer[str]:
        ...         return Lines()
        >>> class Lines(Writer[str]):
        ...     def send(self, messages: Sequence[Message[str]]) -> None:
        ...         print(*[message.data for message in messages], sep=", ")
        >>> Printer(str, name="printer").open().send([Message("hot", "1", "s1", datetime(2026, 1, 1))])
        hot
    """

    kind: ClassVar[str] = "custom"
    batch: int = 500
    """Messages in one `send`, at most."""
    timeout: timedelta = timedelta(seconds=30)
    """A `send` that takes longer has failed."""

    def __init__(self, type: builtins.type[D], *, name: str) -> None:
        self.type = type
        self.name = name

    @abstractmethod
    def open(self) -> Writer[D] | Awaitable[Writer[D]]:
        """Connect; may be `async`. Called in the writer's thread, before the first `send` and after one that failed.

        Raises:
            Exception: As for `Writer.send`: named, and tried again.
        """
