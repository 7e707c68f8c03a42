"""Kafka topics as sources and sinks: what users write; reading and sending is done elsewhere."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeAlias, Union, overload

from typing_extensions import TypeVar

from headrace.sources.cloudevents import CloudEvents
from headrace.sources.own_formats import Decoder, Encoder, KafkaRecord
from headrace.workflows.actions import Tombstone
from headrace.workflows.codec import type_name, without_tombstone
from headrace.workflows.ports import Sink, Source
from headrace.workflows.returns import Fault

D = TypeVar("D")
V = TypeVar("V")
Format: TypeAlias = Literal["json", "msgpack", "raw", "cloudevents"]
Delivery: TypeAlias = Literal["exactly-once", "at-least-once"]
_LEAST_BYTES: Final = 1_000
_DELIVERIES: Final = ("exactly-once", "at-least-once")
FORMATS: Final = ("json", "msgpack", "raw", "cloudevents")
RAW_TYPES: Final = (bytes, str)
_TOMBSTONES: Final = ("dead-letter", "skip", "deliver")


def format_faults(name: object, data_type: Any, other: str | None) -> list[Fault]:
    """What is wrong with `format=` of a source or sink of this type; `other` is the option that stands in its place."""
    if name not in FORMATS:
        return [Fault("format", f"there is no format {name!r}", f"Write one of {', '.join(map(repr, FORMATS))}")]
    if other is not None and name != "json":
        return [Fault("format", f"has both format={name!r} and {other}=", "Leave one of them out")]
    data_type = without_tombstone(data_type)
    if name == "raw" and data_type not in RAW_TYPES:
        message = f"format='raw' is for bytes and str, not for {type_name(data_type)}"
        return [Fault("format", message, "Give it the type bytes or str, or another format")]
    return []


@dataclass(frozen=True, eq=False)
class KafkaSource(Source[D], Generic[D]):
    """The records of a topic (or of all that match a pattern), in order per topic partition.

    Examples:
        >>> import msgspec
        >>> class Reading(msgspec.Struct, frozen=True):
        ...     sensor: str
        ...     celsius: float
        >>> KafkaSource("readings", Reading, key="sensor").name
        'readings'
    """

    topic: str | re.Pattern[str]
    """Its name; or `re.compile(...)`, which names of topics must match as a whole: those that appear later are found
    within 10 s and read from their start. Such a source needs a `name`."""
    type: builtins.type[D]
    key: str | Callable[[Any], str] | None = field(default=None, kw_only=True)
    """Field (`sensor`, `order.id`) or function of the data; None: the record's own key (UTF-8)."""
    time: str | Callable[[Any], datetime | int] | None = field(default=None, kw_only=True)
    """When it happened: field or function of the data that is an aware `datetime`, or milliseconds since 1970 UTC.
    None: the attribute `time` of a CloudEvent that has it, else the record's timestamp."""
    format: Format = field(default="json", kw_only=True)
    """`json`, `msgpack`, `raw` (the value itself, for `bytes` and `str`), `cloudevents` (1.0, both modes)."""
    decoder: Decoder[Any] | Callable[[KafkaRecord], Any] | None = field(default=None, kw_only=True)
    """Reads another format, in place of `format`."""
    tombstones: Literal["dead-letter", "skip", "deliver"] = field(default="dead-letter", kw_only=True)
    """What becomes of a record without a value: a dead letter, nothing, or an event of the record's own key whose
    data is a `Tombstone`; its nodes then take `D | Tombstone`."""
    start: Literal["earliest", "latest"] | datetime = field(default="earliest", kw_only=True)
    """Where to begin in a topic partition that was never read: its start, its end, or the first record whose timestamp
    is at or after a time (with time zone; the end, if there is none). Later the committed position counts."""
    on_gap: Literal["fail", "earliest", "latest"] = field(default="fail", kw_only=True)
    """When the log no longer has what is to be read next (it is named in any case): stand still, go on with
    what is left, or skip to the end."""
    cluster: str | None = field(default=None, kw_only=True)
    """Name of its cluster, which the deployment has an address for; None: the default one."""
    name: str = field(default="", kw_only=True)
    """Default: the topic."""

    kind: ClassVar[str] = "kafka"
    brings_keys: ClassVar[bool] = True

    if TYPE_CHECKING:  # what options mean for the types; the dataclass makes the method that runs

        @overload
        def __init__(
            self: KafkaSource[V],
            topic: str | re.Pattern[str],
            type: builtins.type[V],
            *,
            key: str | Callable[[V], str] | None = ...,
            time: str | Callable[[V], datetime | int] | None = ...,
            format: Format = ...,
            decoder: Decoder[V] | Callable[[KafkaRecord], V] | None = ...,
            tombstones: Literal["dead-letter", "skip"] = ...,
            start: Literal["earliest", "latest"] | datetime = ...,
            on_gap: Literal["fail", "earliest", "latest"] = ...,
            cluster: str | None = ...,
            name: str = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: KafkaSource[V | Tombstone],
            topic: str | re.Pattern[str],
            type: builtins.type[V],
            *,
            key: str | Callable[[V], str] | None = ...,
            time: str | Callable[[V], datetime | int] | None = ...,
            format: Format = ...,
            decoder: Decoder[V] | Callable[[KafkaRecord], V] | None = ...,
            tombstones: Literal["deliver"],
            start: Literal["earliest", "latest"] | datetime = ...,
            on_gap: Literal["fail", "earliest", "latest"] = ...,
            cluster: str | None = ...,
            name: str = ...,
        ) -> None: ...
        def __init__(self, topic: str | re.Pattern[str], type: builtins.type[Any], **options: Any) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or (self.topic if isinstance(self.topic, str) else ""))
        if self.tombstones == "deliver":
            object.__setattr__(self, "type", Union[self.type, Tombstone])  # noqa: UP007  of a type that is a value

    def check(self, now: datetime, *, keyed: bool) -> list[Fault]:
        """See `Source.check`."""
        del now, keyed
        found = format_faults(self.format, self.type, "decoder" if self.decoder is not None else None)
        if isinstance(self.topic, re.Pattern) and not self.name:
            message = f"reads all topics that match {self.topic.pattern!r}, so none of them is its name"
            found.append(Fault("name", message, "Give it a name=, which is kept: positions go by it"))
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            message = f"start={self.start.isoformat()} has no time zone, so it is another moment on another machine"
            found.append(Fault("start", message, "Write start=datetime(..., tzinfo=UTC)"))
        if self.tombstones not in _TOMBSTONES:
            message = f"tombstones={self.tombstones!r} is no way to treat records without a value"
            found.append(Fault("tombstones", message, f"Write one of {', '.join(map(repr, _TOMBSTONES))}"))
        return found


@dataclass(frozen=True, eq=False)
class KafkaSink(Sink[D], Generic[D]):
    """A topic that data are sent to; the event's id is in the headers (`headrace-id`), the same in every repeat.

    Headers for tracing (`traceparent`, `tracestate`, `baggage`) go from the event to what comes of it.
    """

    topic: str
    type: builtins.type[D]
    key: str | Callable[[Any], str] | None = field(default=None, kw_only=True)
    """Field or function of the data that is the record's key; None: the run's key. A tombstone has the run's key."""
    format: Format | CloudEvents = field(default="json", kw_only=True)
    """`json`, `msgpack`, `raw`, `cloudevents`, or `CloudEvents(...)` with attributes of your choice."""
    encoder: Encoder[Any] | Callable[[Any], bytes] | None = field(default=None, kw_only=True)
    """Writes another format, in place of `format`."""
    headers: Sequence[str] | Literal["all"] = field(default=(), kw_only=True)
    """Which headers of the event go on, besides those for tracing; `all`: every one that does not describe the
    event's own value (`content-type`, `ce_...`, `headrace-...`)."""
    tombstones: bool = field(default=False, kw_only=True)
    """It takes `Tombstone` as well: that leaves as a record of the run's key without a value."""
    delivery: Delivery = field(default="exactly-once", kw_only=True)
    """`exactly-once`: in transactions, once for readers of committed records (`isolation.level=read_committed`);
    at least once where the broker has no transactions, which the log says. `at-least-once`: without transactions, some
    20 ms sooner."""
    max_bytes: int | None = field(default=1 << 20, kw_only=True)
    """Bytes of one message at most, with key and headers, as the topic takes them (`max.message.bytes`): a larger one
    is a dead letter in the commit of its event. None: the broker says, later."""
    cluster: str | None = field(default=None, kw_only=True)
    """Name of its cluster, which the deployment has an address for; None: the default one."""
    name: str = field(default="", kw_only=True)
    """Default: the topic."""

    kind: ClassVar[str] = "kafka"

    if TYPE_CHECKING:  # as above

        @overload
        def __init__(
            self: KafkaSink[V],
            topic: str,
            type: builtins.type[V],
            *,
            key: str | Callable[[V], str] | None = ...,
            format: Format | CloudEvents = ...,
            encoder: Encoder[V] | Callable[[V], bytes] | None = ...,
            headers: Sequence[str] | Literal["all"] = ...,
            tombstones: Literal[False] = ...,
            delivery: Delivery = ...,
            max_bytes: int | None = ...,
            cluster: str | None = ...,
            name: str = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: KafkaSink[V | Tombstone],
            topic: str,
            type: builtins.type[V],
            *,
            key: str | Callable[[V], str] | None = ...,
            format: Format | CloudEvents = ...,
            encoder: Encoder[V] | Callable[[V], bytes] | None = ...,
            headers: Sequence[str] | Literal["all"] = ...,
            tombstones: Literal[True],
            delivery: Delivery = ...,
            max_bytes: int | None = ...,
            cluster: str | None = ...,
            name: str = ...,
        ) -> None: ...
        def __init__(self, topic: str, type: builtins.type[Any], **options: Any) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.topic)
        if self.tombstones:
            object.__setattr__(self, "type", Union[self.type, Tombstone])  # noqa: UP007  of a type that is a value

    @property
    def is_plain(self) -> bool:
        """Its records are JSON under the run's key, with no headers but those for tracing."""
        return self.format == "json" and self.encoder is None and self.key is None and not self.headers

    def check(self) -> list[Fault]:
        """See `Sink.check`."""
        found: list[Fault] = []
        if not isinstance(self.format, CloudEvents):
            found = format_faults(self.format, self.type, "encoder" if self.encoder is not None else None)
        elif self.encoder is not None:
            found = [Fault("format", "has both format= and encoder=", "Leave one of them out")]
        if self.delivery not in _DELIVERIES:
            cure = f"Write one of {', '.join(map(repr, _DELIVERIES))}"
            found.append(Fault("delivery", f"there is no delivery {self.delivery!r}", cure))
        if self.max_bytes is not None and self.max_bytes < _LEAST_BYTES:
            cure = f"Write what the topic takes, {_LEAST_BYTES} or more"
            found.append(Fault("number", f"max_bytes={self.max_bytes!r} leaves no room for a message", cure))
        if isinstance(self.headers, str) and self.headers != "all":
            cure = f"Write headers=({self.headers!r},), or headers='all'"
            found.append(Fault("headers", f"headers={self.headers!r} is one name, not several", cure))
        return found
