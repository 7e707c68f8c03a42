"""The way out of a process: a bounded queue, and a thread that sends what is in it. Needs the extra `otel`."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult

from headrace.tracing.options import Tracing
from headrace.tracing.sending import Sender

log = structlog.get_logger(__name__)

QUEUE: Final = 8_192
"""Spans that may wait; more are dropped, and counted."""
AT_ONCE: Final = 512
"""Spans in one request."""
PERIOD: Final = 1.0
"""Seconds that a span waits at most for others."""
FLUSH: Final = 3.0
"""Seconds that a process waits, when it stops, until what is in the queue has left."""


class Lot(NamedTuple):
    """Spans that go into the queue together."""

    size: int
    """How many there are."""
    make: Callable[[], bytes]
    """Makes an `ExportTraceServiceRequest` of them, in the thread that sends it."""


class Sends(Protocol):
    """What sends requests; `Sender` is one."""

    def send(self, data: bytes) -> str:
        """Send a request; why it was not taken, "" if it was."""
        ...

    def stop(self) -> None:
        """Try nothing again."""

    def close(self) -> None:
        """Disconnect."""


class Export(SpanProcessor):
    """Sends spans from a thread of its own. Who gives it some never waits: what does not fit is dropped and counted.

    Args:
        sender: Where they go.
        limit: Spans that may wait.
    """

    def __init__(self, sender: Sends, *, limit: int = QUEUE) -> None:
        self._sender = sender
        self._limit = limit
        self._lots: deque[Lot] = deque()
        self._waiting = 0
        self.exported = 0
        """Spans that the receiver has taken."""
        self.dropped = 0
        """Spans that did not fit into the queue, or that the receiver did not take."""
        self._failing = False
        self._changed = threading.Condition()
        self._stopping = self._flushing = False
        self._thread = threading.Thread(target=self._run, name="headrace-traces", daemon=True)
        self._thread.start()

    def put(self, lot: Lot) -> None:
        """Send these spans soon."""
        with self._changed:
            if self._stopping or self._waiting + lot.size > self._limit:
                self.dropped += lot.size
                return
            self._lots.append(lot)
            self._waiting += lot.size
            if self._waiting >= AT_ONCE:
                self._changed.notify_all()

    def on_end(self, span: ReadableSpan) -> None:
        """A span of the user's code has ended; see `SpanProcessor`."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.put(Lot(1, lambda: encode_spans([span]).SerializeToString()))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now; False: not all of it has left in time."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting, timeout_millis / 1000)

    def flush(self) -> None:
        """Send what waits within `FLUSH` seconds, unless the last request failed."""
        if not self._failing:
            self.force_flush(int(FLUSH * 1000))

    def shutdown(self) -> None:
        """Send what waits, and end; what could not be sent within `FLUSH` seconds is dropped. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(FLUSH)
        self._sender.stop()
        provider = trace.get_tracer_provider()
        if isinstance(provider, Provider) and provider.export is self:
            provider.export = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._flushing or self._waiting >= AT_ONCE, timeout=PERIOD
                )
                lots = self._take()
                last = self._stopping and not lots
                self._flushing = self._flushing and bool(lots)
            if last:
                self._sender.close()
                return
            if lots:
                self._send(lots)

    def _take(self) -> list[Lot]:
        lots: list[Lot] = []
        size = 0
        while self._lots and (not lots or size + self._lots[0].size <= AT_ONCE):
            lots.append(self._lots.popleft())
            size += lots[-1].size
        return lots

    def _send(self, lots: Sequence[Lot]) -> None:
        size = sum(lot.size for lot in lots)
        try:
            problem = self._sender.send(b"".join(lot.make() for lot in lots))
        except Exception as error:  # noqa: BLE001  whatever it is, the thread goes on and the work is not disturbed
            problem = f"{type(error).__name__}: {error}"
        self._say(problem)
        with self._changed:
            self._waiting -= size
            self.exported += 0 if problem else size
            self.dropped += size if problem else 0
            self._changed.notify_all()

    def _say(self, problem: str) -> None:
        """One line when spans begin not to leave, one when they do again."""
        if not problem and self._failing:
            log.info("traces_exported_again", dropped=self.dropped)
        elif problem and not self._failing:
            log.warning("traces_not_exported", reason=problem)
        self._failing = bool(problem)


class Provider(TracerProvider):
    """Where tracers of the user's code come from: their spans leave by the same way as ours."""

    def __init__(self, resource: Resource) -> None:
        self.export: Export | None = None
        super().__init__(sampler=_WhileOpen(self), resource=resource, shutdown_on_exit=False)
        self.add_span_processor(_Forward(self))


class _WhileOpen(Sampler):
    """What belongs to a traced event is sampled, while the process has an export."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._by_parent = ParentBased(ALWAYS_OFF)

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        """See `Sampler`."""
        sampler = ALWAYS_OFF if self._provider.export is None else self._by_parent
        return sampler.should_sample(*arguments, **named)

    def get_description(self) -> str:
        """For people."""
        return "headrace"


class _Forward(SpanProcessor):
    """Hands spans to whatever export the process has now: `dev --inline --reload` has one after the other."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        if self._provider.export is not None:
            self._provider.export.on_end(span)


def resource_of(tracing: Tracing, service: str, instance: str) -> Resource:
    """What all spans of a process have.

    Args:
        tracing: Options.
        service: `service.name`, unless the options have one.
        instance: `service.instance.id`: tells the process from others.
    """
    own: dict[str, str | int] = {
        "service.name": tracing.service or service,
        "service.instance.id": instance,
        "process.pid": os.getpid(),
    }
    return Resource.create({**tracing.resource, **own})


def open_export(tracing: Tracing) -> Export:
    """Begin to export."""
    return Export(Sender(tracing))


def serve_nodes(export: Export, resource: Resource) -> None:
    """Let spans of the user's code leave the same way, unless it has a tracer provider of its own."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(Provider(resource))
    provider = trace.get_tracer_provider()
    if isinstance(provider, Provider):
        provider.export = export
