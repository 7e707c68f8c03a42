"""Base classes of sources and sinks: where events come from and leave to, as users write it.

A port is configuration only. What reads or writes (a consumer, a producer) is made from it by the
process that does so.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Generic, Literal

from typing_extensions import TypeVar

from headrace.workflows.returns import Fault

D = TypeVar("D")

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
"""The time of the build in processes of a workflow that was built before: nothing is past."""


class Source(Generic[D]):
    """Where events of type `D` come from."""

    name: str
    """Unique within the workflow; part of event ids, so keep it."""
    type: builtins.type[D]
    """What its data are decoded to."""
    key: str | Callable[[D], str] | None
    """Which run an event belongs to: a field of the data, a function of the data, or None."""

    kind: ClassVar[str] = "source"
    """For pictures and logs: `kafka`, `channel`, `requests` ..."""
    brings_keys: ClassVar[bool] = False
    """Its records have keys of their own, so that a keyed workflow needs no `key=`."""
    key_cure: ClassVar[str] = "Add key= with a field or a function of the data"
    """What to write when a keyed workflow finds no key."""
    feeder: ClassVar[str] = ""
    """`module:function` that makes the readers of all sources of a workflow that name it, see
    `headrace.sources.feeding`; text, as what reads needs more libraries than what describes."""
    urgent: ClassVar[bool] = False
    """Its records go before backlogs of others: requests, schedules."""
    time: str | Callable[[D], Any] | None = None
    """The event's time: a field of the data, a function of the data, or None: that of the record."""
    tombstones: Literal["dead-letter", "skip", "deliver"] = "dead-letter"
    """What is done with records without a value: `dead-letter`, `skip`, or `deliver`."""

    def check(self, now: datetime, *, keyed: bool) -> Iterable[Fault]:
        """What is wrong with it, apart from its type and key: found when the workflow is built, reported with its line.

        Args:
            now: The time of the build; `BEGINNING` in processes of a workflow that was built before.
            keyed: Whether the workflow is.
        """
        del now, keyed
        return ()

    def bind(self, workflow: str) -> None:
        """Called once it is a source of this workflow: one that is also sent to (a channel) remembers the name."""


class Sink(Generic[D]):
    """Where events of type `D` leave to."""

    name: str
    """Unique within the workflow."""
    type: builtins.type[D]
    """What it takes."""
    key: str | Callable[[D], str] | None = None
    """Under which key a message leaves: a field or function of the data; None: the run's."""
    max_bytes: int | None = None
    """Bytes of one message at most: a larger one is a dead letter at once; None: the sink itself says."""

    kind: ClassVar[str] = "sink"

    def check(self) -> Iterable[Fault]:
        """What is wrong with it, apart from its type; see `Source.check`."""
        return ()


def port_name(port: Source[Any] | Sink[Any]) -> str:
    """Its name, or what can be said if its author forgot one."""
    named = getattr(port, "name", None)
    return str(named or getattr(port, "__name__", None) or builtins.type(port).__name__)
