"""From what was noted of a traced event to OpenTelemetry's spans, by its conventions for messaging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from headrace.workflows.calls import Failed
from headrace.workflows.plan import Plan
from headrace.workflows.tracing import Span, Trace, tracestate_of

SCOPE: Final = InstrumentationScope("headrace")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KAFKA: Final = "kafka"
_OK: Final = Status(StatusCode.UNSET)


@dataclass(frozen=True, slots=True)
class _Port:
    """A source or sink, in the words of messaging."""

    system: str
    destination: str
    """Topic, channel ...; "" for a source of several topics."""


class SpanMaker:
    """Makes the spans of one workflow's traces.

    Args:
        plan: The workflow.
        resource: What all of them have.
        keys: Spans have the keys of runs.
    """

    def __init__(self, plan: Plan, resource: Resource, *, keys: bool) -> None:
        self._workflow = plan.name
        self._resource = resource
        self._keys = keys
        self._sources = {row.name: _source(row.name, row.source) for row in plan.sources}
        self._sinks = {row.name: _sink(row.name, row.sink) for row in plan.sinks}

    def spans(self, trace: Trace) -> Iterator[ReadableSpan]:
        """The span of the event, and those of all that came of it."""
        state = TraceState.from_header([text]) if trace.parent and (text := tracestate_of(trace.headers)) else None
        yield self._consumed(trace, state)
        for span in trace.spans:
            yield self._node(trace, span, state) if span.kind == "node" else self._produced(trace, span, state)

    def _consumed(self, trace: Trace, state: TraceState | None) -> ReadableSpan:
        port = self._sources.get(trace.source) or _Port("headrace", trace.source)
        destination = trace.topic or port.destination or trace.origin
        attributes: dict[str, Any] = {
            "messaging.system": port.system,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": destination,
            "messaging.message.id": trace.event,
            **self._common(trace),
            "headrace.source": trace.source,
        }
        topic, _, partition = trace.origin.rpartition("/")
        if port.system == _KAFKA and topic and isinstance(trace.offset, int):
            attributes["messaging.destination.partition.id"] = partition
            attributes["messaging.kafka.offset"] = trace.offset
        status = _OK
        if trace.error is not None:
            attributes["error.type"] = trace.error[0]
            status = Status(StatusCode.ERROR, trace.error[1])
        parent = None if trace.parent is None else _context(trace, trace.parent, state, remote=True)
        return self._span(
            f"process {destination}", _context(trace, trace.span_id, state), parent, SpanKind.CONSUMER, attributes,
            trace.start, trace.end, status=status,
        )  # fmt: skip

    def _node(self, trace: Trace, span: Span, state: TraceState | None) -> ReadableSpan:
        attributes: dict[str, Any] = {
            **(span.attributes or {}),
            **self._common(trace),
            "headrace.node": span.name,
            "headrace.event.id": span.event,
            "headrace.action": span.result,
            "headrace.outcome": "ok" if span.error is None else span.error.reason,
            "headrace.hop": span.hop,
            "headrace.attempt": span.attempt,
            "headrace.process": span.process,
        }
        events: tuple[Event, ...] = ()
        status = _OK
        if span.error is not None:
            attributes["error.type"] = span.error.reason
            status, events = Status(StatusCode.ERROR, span.error.error), (_exception(span.error, span.end),)
        return self._span(
            span.name, _context(trace, span.id, state), _context(trace, span.parent, state), SpanKind.INTERNAL,
            attributes, span.start, span.end, status=status, events=events,
        )  # fmt: skip

    def _produced(self, trace: Trace, span: Span, state: TraceState | None) -> ReadableSpan:
        port = self._sinks[span.name]
        attributes = {
            "messaging.system": port.system,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": port.destination,
            "messaging.message.id": span.event,
            **self._common(trace),
            "headrace.sink": span.name,
        }
        return self._span(
            f"send {port.destination}", _context(trace, span.id, state), _context(trace, span.parent, state),
            SpanKind.PRODUCER, attributes, span.start, span.end,
        )  # fmt: skip

    def _common(self, trace: Trace) -> dict[str, str]:
        common = {"headrace.workflow": self._workflow}
        if self._keys:
            common["headrace.run.key"] = trace.key
        return common

    def _span(  # noqa: PLR0913  a span has that many parts
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        start: int,
        end: int,
        *,
        status: Status = _OK,
        events: tuple[Event, ...] = (),
    ) -> ReadableSpan:
        return ReadableSpan(
            name, context, parent, self._resource, attributes, events, (), kind, None, status, start, max(start, end),
            SCOPE,
        )  # fmt: skip


def _context(trace: Trace, span_id: bytes, state: TraceState | None, *, remote: bool = False) -> SpanContext:
    return SpanContext(int.from_bytes(trace.trace_id), int.from_bytes(span_id), remote, _SAMPLED, state)


def _exception(row: Failed, time: int) -> Event:
    """What a node raised, as a span has it."""
    kind, colon, message = row.error.partition(": ")
    named = bool(colon) and row.reason == "error" and kind.isidentifier()
    attributes = {
        "exception.type": kind if named else row.reason,
        "exception.message": message if named else row.error,
    }
    if row.traceback:
        attributes["exception.stacktrace"] = row.traceback
    return Event("exception", attributes, time)


def _source(name: str, source: Any) -> _Port:
    if source.kind == _KAFKA:
        topic = getattr(source, "topic", "")
        return _Port(_KAFKA, topic if isinstance(topic, str) else "")
    return _Port("headrace", name)


def _sink(name: str, sink: Any) -> _Port:
    if sink.kind == _KAFKA:
        return _Port(_KAFKA, sink.topic)
    if sink.kind == "workflow":
        return _Port("headrace", f"{sink.workflow}/{sink.source}")
    return _Port(sink.kind, name)
