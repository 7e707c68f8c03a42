"""A receiver of traces by OTLP over HTTP, in the test's own process."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CONSUMER, PRODUCER, SERVER, INTERNAL = 5, 4, 2, 1


@dataclass(frozen=True)
class Got:
    """One span as it was received."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    state: str
    error: str | None
    """Message of its status, if that is `error`."""
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    start: int = 0
    end: int = 0

    @property
    def traceparent(self) -> str:
        """The header by which others continue it."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Receiver:
    """Use as `with Receiver() as receiver`; `answer` is the status that it gives."""

    def __init__(self) -> None:
        self.answer = 200
        self.requests: list[dict[str, str]] = []
        """Headers of each request."""
        self._spans: list[Got] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path, dict(self.headers), body)
                self.send_response(receiver.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """As `OTEL_EXPORTER_OTLP_ENDPOINT` has it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def spans(self) -> list[Got]:
        """All that came and was accepted."""
        with self._lock:
            return list(self._spans)

    def of(self, trace_id: str) -> list[Got]:
        """Those of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """One request."""
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.requests.append(headers)
            if self.answer == 200:
                self._spans += [
                    _got(span, plain(group.resource.attributes))
                    for group in request.resource_spans
                    for scope in group.scope_spans
                    for span in scope.spans
                ]


def _got(span: Any, resource: dict[str, Any]) -> Got:
    return Got(
        span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        plain(span.attributes), resource, span.trace_state, span.status.message if span.status.code == 2 else None,
        {event.name: plain(event.attributes) for event in span.events}, span.start_time_unix_nano,
        span.end_time_unix_nano,
    )  # fmt: skip


def plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """Attributes as Python's own values."""
    return {row.key: _value(row.value) for row in attributes}


def _value(value: Any) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return [_value(part) for part in found.values] if value.WhichOneof("value") == "array_value" else found


def tree(spans: Iterable[Got]) -> dict[str, list[str]]:
    """Name of a span -> names of its children, sorted; under "" those whose parent is not among them."""
    rows = list(spans)
    names = {span.span_id: span.name for span in rows}
    found: dict[str, list[str]] = {}
    for span in rows:
        found.setdefault(names.get(span.parent, ""), []).append(span.name)
    return {name: sorted(children) for name, children in found.items()}
