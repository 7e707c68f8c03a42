"""What a node returns besides data, and what arrives at nodes besides a source's data."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from typing_extensions import TypeAliasType, TypeVar

O = TypeVar("O")  # noqa: E741  read as "output"


class Action(Enum):
    """Base of a node's own actions: a member, returned, sends the node's input event on by that route.

    Examples:
        >>> class Heat(Action):
        ...     NORMAL = "normal"
        ...     HIGH = "high"

    A plain `Enum` on purpose: the members of a `StrEnum` are strings, so a checker could not tell a
    wrong string from an action.
    """


class Complete(msgspec.Struct, frozen=True):
    """Returned: the run ends, completed."""

    result: Any = None
    """What callers and an outer workflow get; anything that JSON can carry."""


class Terminate(msgspec.Struct, frozen=True):
    """Returned: the run ends at once, terminated. Nothing new of it leaves but its end."""

    reason: str


class Reject(Exception):
    """Raised (by a batch node: returned in the event's place): the event goes to the dead letters at once.

    Attributes:
        reason: Why, for whoever reads the dead letters.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Tombstone(msgspec.Struct, frozen=True):
    """Data of a Kafka record without a value: what had its key was deleted. Returned, it leaves as such a record."""


class Timeout(msgspec.Struct, frozen=True):
    """Data of the event that arrives when a run was idle, or stood at a wait, for too long."""

    after: timedelta
    """How long it was."""


class Failure(msgspec.Struct, frozen=True):
    """Data of the event that arrives by `.on(Failure)`: a node, a join or an inner workflow failed for good.

    Examples:
        >>> failure = Failure("OSError: out of stock", node="ship", data={"item": "lamp", "price": 30})
        >>> failure.read(dict[str, str | int])["price"]
        30
    """

    error: str
    """Class and text of the error, what `Reject` says, or the reason of an inner `Terminate`."""
    reason: str = "error"
    """A stable word, as dead letters have it: `error`, `reject`, `output`, `timeout`, `poison`, `state`; `join`: of a
    join, too few branches are left; `unended`: of an item, its run has come to no end."""
    node: str = ""
    """Name of the node that failed."""
    attempts: int = 1
    """How often it has tried."""
    data: Any = None
    """Data of the event that it failed at, as JSON has it (dict, list, str ...); see `read`."""

    def read(self, type: type[O]) -> O:
        """The data of the event that the node failed at, as the type that the node takes.

        Raises:
            msgspec.ValidationError: It is no such data.
        """
        return msgspec.convert(self.data, type, str_keys=True)


class Timer(msgspec.Struct, frozen=True):
    """A timer that fell due, as `Node.on_timer` gets it."""

    name: str
    due: datetime


Result = TypeAliasType("Result", O | list[O] | Complete | Terminate | None, type_params=(O,))
"""Everything that a node with output `O` may return. Say less where you can: what can end a run
(`Complete`, `Terminate` in the return annotation) keeps a run's events from overlapping."""
