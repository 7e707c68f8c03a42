"""Traces of requests: spans where they are asked for; headers for tracing go on to the event in any case."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fastapi import Request

from headrace.tracing.answers import Answered
from headrace.tracing.options import Tracing, tracing_of
from headrace.workflows.packing import TRACE_HEADERS
from headrace.workflows.records import Headers

if TYPE_CHECKING:
    from headrace.tracing.requests import RequestTraces

LONGEST: Final = 8_192
"""Bytes of one header that goes on (W3C Baggage: as many have to be)."""
_TRACED: Final = {name.encode(): name for name in TRACE_HEADERS}
"""As they come in: ASGI has headers in lower case."""


class GatewayTraces:
    """Traces of one gateway.

    Args:
        tracing: Where spans go; None: as OpenTelemetry's variables say, if they do.

    Raises:
        TraceOptionError: Something that a variable says can't be used.
        TracesNotInstalled: There are to be traces, but the extra `otel` is not installed.
    """

    def __init__(self, tracing: Tracing | None) -> None:
        self._tracing = tracing or tracing_of({}, os.environ)
        self._spans: RequestTraces | None = None

    def open(self) -> None:
        """Begin to export, if it is asked for."""
        if self._tracing is not None and self._spans is None:
            from headrace.tracing.requests import RequestTraces  # noqa: PLC0415  needs the extra

            self._spans = RequestTraces(self._tracing, f"gateway/{secrets.token_hex(4)}")

    async def close(self) -> None:
        """Send what waits."""
        spans, self._spans = self._spans, None
        if spans is not None:
            await asyncio.to_thread(spans.close)

    def unobserved(self, request: Request) -> Headers | None:
        """Headers of the event of a request that has no span; None: it has one, see `request`."""
        return _headers(request) if self._spans is None else None

    @contextmanager
    def request(self, request: Request, workflow: str) -> Iterator[Answered]:
        """A request for a workflow comes in, and is answered when this ends."""
        came = _headers(request)
        if self._spans is None:
            yield Answered(came)
            return
        route = getattr(request.scope.get("route"), "path", "")
        with self._spans.request(request.method, route, workflow, came) as answered:
            yield answered


def _headers(request: Request) -> Headers:
    """Those for tracing."""
    return tuple(
        (_TRACED[name], value) for name, value in request.scope["headers"] if name in _TRACED and len(value) <= LONGEST
    )
