"""The span of a node's call as the node's own code sees it, by `opentelemetry.trace.get_current_span()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from headrace.workflows.records import Headers
from headrace.workflows.tracing import parent_in, tracestate_of

MOST: Final = 64
"""Attributes that a node's code may set on one span."""
LONGEST: Final = 4_096
"""Characters of one that is text."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_PLAIN: Final = (str, bool, int, float)


class NodeSpan(NonRecordingSpan):
    """Stands for a node's call while it lasts. The span itself is made by the worker, once the call counts.

    Attributes that are set on it are kept. Name, status, events and end are the engine's.
    """

    def __init__(self, context: SpanContext) -> None:
        super().__init__(context)
        self.attributes: dict[str, Any] = {}

    def is_recording(self) -> bool:
        """It takes attributes."""
        return True

    def set_attribute(self, key: str, value: Any) -> None:
        """Keep one, if it is a text, a number, a truth value, or a list of them."""
        if len(self.attributes) < MOST or key in self.attributes:
            kept = _kept(value)
            if kept is not None:
                self.attributes[str(key)] = kept

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Keep several."""
        for key, value in attributes.items():
            self.set_attribute(key, value)


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, _PLAIN):
        return value if not isinstance(value, int) or -(1 << 63) <= value < 1 << 63 else None
    if isinstance(value, Sequence) and all(isinstance(part, _PLAIN) for part in value):
        return [_kept(part) for part in value]
    return None


@contextmanager
def scope(trace_id: bytes, span_id: bytes, headers: Headers) -> Iterator[dict[str, Any]]:
    """Make a node's span the current one; see `headrace.workflows.traced_run.Scope`."""
    text = tracestate_of(headers) if parent_in(headers) is not None else ""
    state = TraceState.from_header([text]) if text else None
    span = NodeSpan(SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), False, _SAMPLED, state))
    token = contexts.attach(set_span_in_context(span))
    try:
        yield span.attributes
    finally:
        contexts.detach(token)
