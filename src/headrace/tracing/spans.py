"""From what was noted of a traced event to spans, by OpenTelemetry's conventions for messaging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace.tracing.encoding import constant, event, request, span
from headrace.workflows.calls import Failed
from headrace.workflows.plan import Plan
from headrace.workflows.tracing import Span, Trace, tracestate_of

SCOPE: Final = "headrace"
_INTERNAL: Final = 1
_PRODUCER: Final = 4
_CONSUMER: Final = 5
_KAFKA: Final = "kafka"


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
        resource: Attributes that all of them have.
        keys: Spans have the keys of runs.
    """

    def __init__(self, plan: Plan, resource: Mapping[str, Any], *, keys: bool) -> None:
        self._workflow = plan.name
        self._resource = resource
        self._keys = keys
        self._sources = {row.name: _source(row.name, row.source) for row in plan.sources}
        self._consumed: dict[tuple[str, str], bytes] = {}
        self._produced = {row.name: self._sink(row.name, row.sink) for row in plan.sinks}
        self._nodes = {
            row.name: constant(row.name, _INTERNAL, {**self._always, "headrace.node": row.name}) for row in plan.nodes
        }

    @property
    def _always(self) -> dict[str, str]:
        return {"headrace.workflow": self._workflow}

    def request(self, traces: Sequence[Trace]) -> bytes:
        """An `ExportTraceServiceRequest` with all spans of these traces."""
        return request(self._resource, SCOPE, (row for trace in traces for row in self._spans(trace)))

    def _spans(self, trace: Trace) -> Iterator[bytes]:
        """The span of the event, and those of all that came of it."""
        state = tracestate_of(trace.headers).encode() if trace.parent else b""
        key = {"headrace.run.key": trace.key} if self._keys else {}
        yield self._of_event(trace, state, key)
        for row in trace.spans:
            yield self._of_node(trace, row, state, key) if row.kind == "node" else self._of_sink(trace, row, state, key)

    def _of_event(self, trace: Trace, state: bytes, key: Mapping[str, str]) -> bytes:
        port = self._sources.get(trace.source) or _Port("headrace", trace.source)
        destination = trace.topic or port.destination or trace.origin
        same = self._consumed.get((trace.source, destination))
        if same is None:
            said = {**_messaging(port.system, "process", destination), **self._always, "headrace.source": trace.source}
            same = self._consumed[trace.source, destination] = constant(f"process {destination}", _CONSUMER, said)
        values: dict[str, Any] = {"messaging.message.id": trace.event, **key}
        topic, _, partition = trace.origin.rpartition("/")
        if port.system == _KAFKA and topic and isinstance(trace.offset, int):
            values["messaging.destination.partition.id"] = partition
            values["messaging.kafka.offset"] = trace.offset
        if trace.error is not None:
            values["error.type"] = trace.error[0]
        return span(
            (trace.trace_id, trace.span_id, trace.parent or b""), (trace.start, trace.end), same, values, state=state,
            remote=trace.parent is not None, error=None if trace.error is None else trace.error[1],
        )  # fmt: skip

    def _of_node(self, trace: Trace, row: Span, state: bytes, key: Mapping[str, str]) -> bytes:
        values: dict[str, Any] = {
            **(row.attributes or {}),
            **key,
            "headrace.event.id": row.event,
            "headrace.action": row.result,
            "headrace.outcome": "ok" if row.error is None else row.error.reason,
            "headrace.hop": row.hop,
            "headrace.attempt": row.attempt,
            "headrace.process": row.process,
        }
        raised = b""
        if row.error is not None:
            values["error.type"] = row.error.reason
            raised = event("exception", row.end, _exception(row.error))
        return span(
            (trace.trace_id, row.id, row.parent), (row.start, row.end), self._nodes[row.name], values, state=state,
            error=None if row.error is None else row.error.error, event=raised,
        )  # fmt: skip

    def _of_sink(self, trace: Trace, row: Span, state: bytes, key: Mapping[str, str]) -> bytes:
        values = {"messaging.message.id": row.event, **key}
        return span(
            (trace.trace_id, row.id, row.parent), (row.start, row.end), self._produced[row.name], values, state=state
        )

    def _sink(self, name: str, sink: Any) -> bytes:
        if sink.kind == _KAFKA:
            port = _Port(_KAFKA, sink.topic)
        elif sink.kind == "workflow":
            port = _Port("headrace", f"{sink.workflow}/{sink.source}")
        else:
            port = _Port(sink.kind, name)
        said = {**_messaging(port.system, "send", port.destination), **self._always, "headrace.sink": name}
        return constant(f"send {port.destination}", _PRODUCER, said)


def _messaging(system: str, operation: str, destination: str) -> dict[str, str]:
    return {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def _exception(row: Failed) -> dict[str, str]:
    """What a node raised, as an event has it."""
    kind, colon, message = row.error.partition(": ")
    named = bool(colon) and row.reason == "error" and kind.isidentifier()
    values = {
        "exception.type": kind if named else row.reason,
        "exception.message": message if named else row.error,
    }
    return values | ({"exception.stacktrace": row.traceback} if row.traceback else {})


def _source(name: str, source: Any) -> _Port:
    if source.kind == _KAFKA:
        topic = getattr(source, "topic", "")
        return _Port(_KAFKA, topic if isinstance(topic, str) else "")
    return _Port("headrace", name)
