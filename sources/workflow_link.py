"""From one workflow to another: what users write on both sides."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic

from typing_extensions import TypeVar

from headrace.workflows.ports import Sink, Source

D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class WorkflowSink(Sink[D], Generic[D]):
    """Data become events of another workflow that runs with the same store, under the run's key; once each.

    The other one has a `WorkflowSource` of that name. It may be started later: until then what is for it waits in the
    outbox, and `headrace status` says so.

    Examples:
        >>> WorkflowSink("billing", dict, source="orders").name
        'billing.orders'
    """

    workflow: str
    """Name of the workflow that receives them."""
    type: builtins.type[D]
    source: str = field(default="", kw_only=True)
    """Name of its `WorkflowSource`; default: as there, the type's name in small letters."""
    name: str = field(default="", kw_only=True)
    """Default: workflow and source, `billing.orders`."""

    kind: ClassVar[str] = "workflow"

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or _default(self.type))
        object.__setattr__(self, "name", self.name or f"{self.workflow}.{self.source}")


@dataclass(frozen=True, eq=False)
class WorkflowSource(Source[D], Generic[D]):
    """Events that other workflows send by a `WorkflowSink` with this workflow's name and this source's.

    Examples:
        >>> WorkflowSource(dict, key="customer", name="orders").name
        'orders'
    """

    type: builtins.type[D]
    key: str | Callable[[D], str] | None = field(default=None, kw_only=True)
    """Field or function of the data; None: the key of the run that sent it."""
    name: str = field(default="", kw_only=True)
    """Unique within the workflow; default: the type's name in small letters."""

    kind: ClassVar[str] = "workflow"
    brings_keys: ClassVar[bool] = True
    feeder: ClassVar[str] = "headrace.sources.streams:make_readers"
    urgent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or _default(self.type))


def _default(type: object) -> str:
    return str(getattr(type, "__name__", "events")).lower()
