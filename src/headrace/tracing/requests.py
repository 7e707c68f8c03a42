"""Spans of requests to the gateway. Needs the extra `otel`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headrace.tracing.answers import Answered
from headrace.tracing.exporting import open_export, resource_of
from headrace.tracing.options import Tracing
from headrace.workflows.packing import TRACE_HEADERS
from headrace.workflows.records import Headers
from headrace.workflows.tracing import parent_in

SERVICE: Final = "headrace-gateway"
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class RequestTraces:
    """Makes a span for each request that is traced.

    Args:
        tracing: Where spans go.
        instance: Tells this process from others.
    """

    def __init__(self, tracing: Tracing, instance: str) -> None:
        resource = resource_of(tracing, SERVICE, instance)
        self._provider = TracerProvider(sampler=_sampler(tracing), resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(open_export(tracing))
        self._tracer = self._provider.get_tracer("headrace")

    @contextmanager
    def request(self, method: str, route: str, workflow: str, headers: Headers) -> Iterator[Answered]:
        """A request comes in, and is answered when this ends.

        Where instrumentation of the application has made a span, that is the event's parent, and there is no other.

        Args:
            method: `POST`.
            route: Path with names in place of values: keys may be personal data.
            workflow: For which workflow.
            headers: Those for tracing that came.
        """
        if trace.get_current_span().is_recording():
            yield Answered(_under(trace.get_current_span(), headers))
            return
        came = {name.lower(): value.decode("latin-1") for name, value in headers}
        parent = _PROPAGATOR.extract(came) if parent_in(headers) is not None else None
        attributes = {"http.request.method": method, "http.route": route, "headrace.workflow": workflow}
        with self._tracer.start_as_current_span(
            f"{method} {route}", parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip
            answered = Answered(_under(span, headers) if span.is_recording() else headers)
            try:
                yield answered
            finally:
                span.set_attribute("http.response.status_code", answered.status)
                if answered.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    span.set_attribute("error.type", str(answered.status))
                    span.set_status(Status(StatusCode.ERROR))

    def close(self) -> None:
        """Send what waits; takes seconds at most."""
        self._provider.shutdown()


def _under(span: trace.Span, headers: Headers) -> Headers:
    """Headers that name a span as the parent."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    others = tuple(row for row in headers if row[0].lower() in TRACE_HEADERS - {"traceparent", "tracestate"})
    return (*((name, value.encode()) for name, value in carrier.items()), *others)


def _sampler(tracing: Tracing) -> Sampler:
    by_ratio = TraceIdRatioBased(tracing.ratio)
    return ParentBased(by_ratio) if tracing.parent_based else by_ratio
