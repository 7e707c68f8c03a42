"""Kafka topics as sources and sinks: what users write; reading and sending is done elsewhere."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal

from typing_extensions import TypeVar

from headrace.workflows.ports import Sink, Source

D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class KafkaSource(Source[D], Generic[D]):
    """The records of a topic, in order per topic partition; values are JSON.

    Example:
        >>> import msgspec
        >>> class Reading(msgspec.Struct, frozen=True):
        ...     sensor: str
        ...     celsius: float
        >>> KafkaSource("readings", Reading, key="sensor").name
        'readings'
    """

    topic: str
    type: builtins.type[D]
    key: str | Callable[[D], str] | None = field(default=None, kw_only=True)
    """Field or function of the data; None: the record's own key (UTF-8)."""
    start: Literal["earliest", "latest"] = field(default="earliest", kw_only=True)
    """Where to begin in a topic partition that was never read; later the committed position counts."""
    on_gap: Literal["fail", "earliest", "latest"] = field(default="fail", kw_only=True)
    """When the log no longer has what is to be read next (it is named in any case): stand still, go on with
    what is left, or skip to the end."""
    cluster: str | None = field(default=None, kw_only=True)
    """Name of its cluster, which the deployment has an address for; None: the default one."""
    name: str = field(default="", kw_only=True)
    """Default: the topic."""

    kind: ClassVar[str] = "kafka"
    brings_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.topic)


@dataclass(frozen=True, eq=False)
class KafkaSink(Sink[D], Generic[D]):
    """A topic that data are sent to as JSON, under the run's key; the event's id is in the headers."""

    topic: str
    type: builtins.type[D]
    cluster: str | None = field(default=None, kw_only=True)
    """Name of its cluster, which the deployment has an address for; None: the default one."""
    name: str = field(default="", kw_only=True)
    """Default: the topic."""

    kind: ClassVar[str] = "kafka"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.topic)
