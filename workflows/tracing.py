"""Traces of single events through a workflow: which are traced, and what is noted of them until their commit.

W3C Trace Context: an event whose header `traceparent` says that its trace is sampled continues that trace. Ids of
spans are made from the event's identity, so that a repeat after a crash has the same ones, and what is noted leaves
only when its epoch is committed. Nothing here exports: see `headrace.tracing`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from .calls import Failed, Hop, Path
from .records import Headers, Records

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
_LENGTH: Final = len(TRACEPARENT)
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 1
_SPREAD: Final = 0x9E3779B1
"""2^32 over the golden ratio: multiples of it fall evenly, so every 100th event or so is picked at 1 %."""
_ALL: Final = (1 << 32) - 1


class Parent(NamedTuple):
    """What a header `traceparent` says."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


def parent_of(value: bytes) -> Parent | None:
    """The parent that a `traceparent` names; None if it is malformed (W3C Trace Context, 3.2)."""
    match = _FORM.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    parent = Parent(bytes.fromhex(trace.decode()), bytes.fromhex(span.decode()), bool(int(flags, 16) & _SAMPLED))
    return parent if any(parent.trace_id) and any(parent.span_id) else None


def parent_in(headers: Headers) -> Parent | None:
    """The parent that headers name; None if none does, it is malformed, or several say different things."""
    found = {value for name, value in headers if name.lower() == TRACEPARENT}
    return parent_of(found.pop()) if len(found) == 1 else None


def traceparent(trace_id: bytes, span_id: bytes) -> bytes:
    """The header of a sampled span."""
    return f"00-{trace_id.hex()}-{span_id.hex()}-01".encode()


def tracestate_of(headers: Headers) -> str:
    """What vendors have added, in one line; empty if nobody has, or if it is no text."""
    found = [value for name, value in headers if name.lower() == TRACESTATE]
    return b",".join(found).decode("ascii", "ignore")


def span_id(seed: bytes, *parts: object) -> bytes:
    """An id of 8 bytes: the same for the same parts."""
    text = "\0".join(map(str, parts)).encode()
    return blake2b(text, digest_size=8, key=seed).digest()


def node_span_id(consumer: bytes, node: str, path: Path, hops: int) -> bytes:
    """Id of the span of one call of a node, from that of the event's first span."""
    return span_id(consumer, "node", node, path, hops)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which events are traced: OpenTelemetry's samplers, in two numbers."""

    parent_based: bool = True
    """An event with a valid `traceparent` is traced if that is sampled; others by `ratio`. Else all go by `ratio`."""
    ratio: float = 0.0
    """Share of events, from 0 to 1."""


@dataclass(slots=True)
class Span:
    """Something that was done with a traced event: a node's call, or an output."""

    kind: str
    """`node` or `sink`."""
    name: str
    id: bytes
    parent: bytes
    start: int
    """Nanoseconds since 1970 UTC, by the clock of the machine that did it."""
    end: int
    event: str
    """Id of the event: what came of the source's event has a path behind it."""
    path: Path
    result: str = ""
    """Of a node: the action, or the class of data, that it returned; "" is nothing."""
    hop: int = 0
    process: str = ""
    attempt: int = 1
    """Of a node's call: larger after the node's process was lost under way."""
    attributes: Mapping[str, Any] | None = None
    """What the node's code has set on its span."""
    error: Failed | None = None


@dataclass(slots=True)
class Trace:
    """One traced event of a source, and all that came of it in one epoch."""

    trace_id: bytes
    span_id: bytes
    """Of the span that stands for the whole of it: taken from the source, until committed."""
    parent: bytes | None
    """Span that `traceparent` named; None: the trace begins here."""
    headers: Headers
    """As they came."""
    source: str
    origin: str
    topic: str
    offset: int | str
    event: str
    key: str
    start: int
    clock: Callable[[], int]
    end: int = 0
    error: tuple[str, str] | None = None
    """Reason and sentence of a dead letter that came of it."""
    spans: list[Span] = field(default_factory=list)
    _last: dict[Path, bytes] = field(default_factory=dict)
    _handed_on: Headers | None = None

    @property
    def context(self) -> bytes:
        """What travels to nodes: both ids."""
        return self.trace_id + self.span_id

    def hop(self, hop: Hop, node: str, path: Path, *, event: str, attempt: int, process: str) -> None:
        """A node has had the event (or what came of it by `path`)."""
        own = node_span_id(self.span_id, node, path, hop.hops)
        end = hop.start + hop.took
        self.spans.append(
            Span(
                "node", node, own, self._cause(path), hop.start, end, event, path, hop.result, hop.hops, process,
                attempt, hop.attributes,
            )
        )  # fmt: skip
        self._last[path] = own

    def failed(self, node: str | None, path: Path, row: Failed) -> None:
        """It stops here, as a dead letter."""
        self.stopped(row.reason, row.error)
        self.rerouted(node, path, row)

    def rerouted(self, node: str | None, path: Path, row: Failed) -> None:
        """The node has failed: its span says so, whatever becomes of the event."""
        for span in reversed(self.spans):
            if span.name == node and span.path == path and span.kind == "node":
                span.error = row
                return

    def stopped(self, reason: str, error: str) -> None:
        """A dead letter came of it; the first one is told."""
        self.error = self.error or (reason, error)

    def outgoing(self, sink: str, path: Path) -> Headers:
        """The event's headers, as an output has them: `traceparent` names the span of the output."""
        if self._handed_on is None:
            mine = (TRACEPARENT,) if self.parent is not None else (TRACEPARENT, TRACESTATE)
            self._handed_on = tuple(row for row in self.headers if row[0].lower() not in mine)
        own = traceparent(self.trace_id, self._output_id(sink, path))
        return ((TRACEPARENT, own), *self._handed_on)

    def output(self, sink: str, path: Path, event: str) -> None:
        """An output was written down."""
        own, now = self._output_id(sink, path), self.clock()
        self.spans.append(Span("sink", sink, own, self._cause(path), now, now, event, path))

    def finish(self, now: int, outputs: Container[str] | None) -> None:
        """It is committed.

        Args:
            now: Nanoseconds since 1970 UTC.
            outputs: Ids of the outputs in the commit; None: all that were written down.
        """
        self.end = now
        for span in self.spans:
            if span.kind == "sink":
                span.end = now
        if outputs is not None:
            self.spans = [span for span in self.spans if span.kind != "sink" or span.event in outputs]

    def _output_id(self, sink: str, path: Path) -> bytes:
        return span_id(self.span_id, "sink", sink, path)

    def _cause(self, path: Path) -> bytes:
        """The last span of what it came of: the event itself, or the nearest one that it is a branch of."""
        last = self._last
        for length in range(len(path), -1, -1):
            if path[:length] in last:
                return last[path[:length]]
        return self.span_id


class Tracer:
    """Begins traces, and hands on those that are committed.

    Args:
        seed: Tells this workflow's life from others that read the same events.
        sampling: Which events are traced.
        clock: Nanoseconds since 1970 UTC.
        deliver: Gets the traces of each commit; must not wait.
    """

    def __init__(
        self,
        seed: str,
        sampling: Sampling,
        clock: Callable[[], int],
        deliver: Callable[[Sequence[Trace]], None],
    ) -> None:
        self._seed = seed.encode()[:64]
        self._sampling = sampling
        self._bound = int(sampling.ratio * (_ALL + 1))
        self._clock = clock
        self._deliver = deliver

    def begin(self, records: Records, source: str) -> dict[int, Trace]:
        """Traces of those records that are traced, by index."""
        picked: dict[int, Parent | None] = self._with_parent(records) if records.headers else {}
        by_ratio = self._by_ratio(records) if self._bound else []
        if not self._sampling.parent_based:
            picked = {index: picked.get(index) for index in by_ratio}
        else:
            picked |= {index: None for index in by_ratio if index not in picked}
        now = self._clock() if picked else 0
        return {
            index: self._trace(records, index, source, parent, now)
            for index, parent in picked.items()
            if parent is None or parent.sampled or not self._sampling.parent_based
        }

    def end(self, traces: Sequence[Trace], outputs: Container[str] | None = None) -> None:
        """They are committed; `outputs`: see `Trace.finish`."""
        now = self._clock()
        for trace in traces:
            trace.finish(now, outputs)
        self._deliver(traces)

    @staticmethod
    def _with_parent(records: Records) -> dict[int, Parent | None]:
        found: dict[int, Parent | None] = {}
        for index, row in enumerate(records.headers or ()):
            for name, _ in row:  # seen by every event with headers: no call for those without this one
                if len(name) == _LENGTH and name.lower() == TRACEPARENT:
                    parent = parent_in(row)
                    if parent is not None:
                        found[index] = parent
                    break
        return found

    def _by_ratio(self, records: Records) -> list[int]:
        """Events that the ratio picks: the same ones whenever they are read."""
        bound, seed = self._bound, zlib.crc32(records.identity.encode())
        numbers: Any = records.ids or records.offsets
        if numbers and isinstance(numbers[0], str):
            numbers = [zlib.crc32(text.encode()) for text in numbers]
        return [index for index, number in enumerate(numbers) if (number * _SPREAD + seed) & _ALL < bound]

    def _trace(self, records: Records, index: int, source: str, parent: Parent | None, now: int) -> Trace:
        offset = records.offsets[index]
        event = records.ids[index] if records.ids else f"{records.identity}/{offset}"
        seed = blake2b(self._seed, digest_size=16).digest()
        trace_id = blake2b(event.encode(), digest_size=16, key=seed).digest() if parent is None else parent.trace_id
        above = b"" if parent is None else parent.span_id
        own = span_id(seed, trace_id.hex(), above.hex(), source, event)
        return Trace(
            trace_id, own, above or None, records.headers[index] if records.headers else (), source, records.origin,
            records.topic, offset, event, "", now, self._clock,
        )  # fmt: skip
