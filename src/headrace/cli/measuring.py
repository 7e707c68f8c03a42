"""`metrics`: prints what processes count, or serves it to Prometheus."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog

from headrace.actors.store_registry import Registry
from headrace.cli.exits import ExitCode, UsageError
from headrace.cli.screen import Screen
from headrace.cli.signals import Signals
from headrace.metrics.exposition import CONTENT_TYPE, exposition
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import StoreUnavailable

log = structlog.get_logger(__name__)

_LOOK: Final = 0.25
"""Seconds between two looks whether to stop."""


def metrics(workflow: str | None, urls: Sequence[str], screen: Screen, *, listen: str | None) -> ExitCode:
    """Print the metrics of one workflow, or of all; or serve them until a signal comes.

    Raises:
        UsageError: `listen` is no address, or is taken.
        StoreUnavailable: The store can't be reached (when printing).
    """
    if listen is None:
        screen.raw(b"".join(asyncio.run(_collect(workflow, urls))).decode().rstrip())
        return ExitCode.OK
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(f"--listen {listen}: give HOST:PORT, such as 127.0.0.1:9464")
    return _serve(workflow, urls, screen, host.strip("[]") or "127.0.0.1", int(port))


async def _collect(workflow: str | None, urls: Sequence[str]) -> list[bytes]:
    pages = []
    for url in urls:
        registry = Registry(url, connections=2)  # not opened: whether state is safe there is no concern of ours
        try:
            pages.append(await exposition(registry, workflow=workflow))
        finally:
            await registry.close()
    return pages


def _serve(workflow: str | None, urls: Sequence[str], screen: Screen, host: str, port: int) -> ExitCode:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] not in ("/metrics", "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There is /metrics.\n"]
        try:
            page = b"".join(asyncio.run(_collect(workflow, urls)))
        except (StoreUnavailable, HeadraceError) as error:
            log.warning("metrics_not_read", reason=str(error))
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [f"{error}\n".encode()]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE)])
        return [page]

    try:
        server = make_server(host, port, application, handler_class=_Quiet)
    except OSError as error:
        raise UsageError(f"--listen {host}:{port}: {error.strerror or error}. Give another port.") from error
    signals = Signals(sys.stdout.flush)
    with server, signals:
        server.timeout = _LOOK
        screen.say(f"Metrics at http://{host}:{server.server_port}/metrics; Ctrl-C stops")
        while not signals.asked.is_set():
            server.handle_request()
    return ExitCode.OK


class _Quiet(WSGIRequestHandler):
    """Writes no line for each scrape."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
