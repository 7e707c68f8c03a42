"""What one gateway process counts: requests by route and status, how long they took, who waits."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.metrics.families import Family, families_of

_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GatewayMeter:
    """Counts of one process.

    Args:
        waiting: How many callers wait now.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self.process = f"gateway/{secrets.token_hex(4)}"
        """Tells this process from others."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "headrace_gateway_requests", "Requests that were answered.", ["method", "route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "headrace_gateway_request_seconds", "Time until the answer began, waiting included.", ["method", "route"],
            registry=self._registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._rows: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        gauge = Gauge("headrace_gateway_waiting", "Callers that wait for an answer.", registry=self._registry)
        gauge.set_function(waiting)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        row = self._rows.get((method, route, status))
        if row is None:
            row = (self._requests.labels(method, route, str(status)), self._seconds.labels(method, route))
            self._rows[method, route, status] = row
        row[0].inc()
        row[1].observe(seconds)

    def rows(self) -> list[tuple[dict[str, str], Family]]:
        """All counts, with the labels of this process."""
        return [({"process": self.process}, family) for family in families_of(self._registry)]


class Metered:
    """Middleware that counts requests; those that no route takes are one route, whatever was asked for.

    Args:
        app: What answers.
        meter: Counts.
    """

    def __init__(self, app: ASGIApp, meter: GatewayMeter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "(none)")
                self._meter.answered(scope["method"], route, message["status"], time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, count)
