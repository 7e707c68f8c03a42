"""Servers for the gateway: processes of their own, or a thread beside something else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from headrace.collecting import collect_seldom
from headrace.gateway.app import create_app
from headrace.gateway.following import KEEP_ALIVE
from headrace.gateway.protocol import Protocol, SocketProtocol
from headrace.gateway.session_frames import AROUND
from headrace.gateway.settings import GatewaySettings, check_exposed
from headrace.logs import configure_logs
from headrace.settings.model import Format, Level
from headrace.tracing.options import Tracing
from headrace.workflows.errors import HeadraceError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from fastapi import FastAPI

_BACKLOG: Final = 2048
_MORE: Final = 5
"""Seconds beside those for a body that open requests have when a process is to end."""
_HUNG: Final = 30
"""Seconds without a sign after which a process is replaced: one that starts, on a busy machine, gives none at first."""


class AddressTaken(HeadraceError):
    """The gateway can't listen at its address.

    Attributes:
        host: Where it was to listen.
        port: The port.
    """

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(f"The gateway can't listen at {host}:{port}: {cause}. Give another one by --host and --port.")
        self.host = host
        self.port = port


class GatewayNotStarted(HeadraceError):
    """The gateway has ended while it was started; its log says why."""

    def __init__(self) -> None:
        super().__init__("The gateway has ended while it was started. Look at its log.")


def listen(settings: GatewaySettings) -> socket.socket:
    """A socket at the gateway's address, which processes can share.

    Raises:
        AddressTaken: Somebody else has it, or there is no such address.
        GatewayOptionError: Other machines reach it, and nothing is said of credentials.
    """
    check_exposed(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        found.close()
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AddressTaken(settings.host, settings.port, cause) from error
    found.set_inheritable(True)
    return found


def address_of_socket(found: socket.socket) -> str:
    """Where it is reached: `http://127.0.0.1:8080`."""
    host, port = found.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    redis_url: str,
    settings: GatewaySettings,
    found: socket.socket,
    *,
    traces: Tracing | None = None,
    level: Level = "info",
    form: Format = "auto",
) -> None:
    """Answer requests until SIGTERM or SIGINT; then those that are open are answered first.

    Args:
        redis_url: Address of the store.
        settings: Limits, and how many processes answer.
        found: Where to listen.
        traces: Where spans go.
        level: Of logs.
        form: Of logs.
    """
    make = partial(_app, redis_url, settings, traces, level, form)
    config = _config(make, settings)
    if settings.processes == 1:
        uvicorn.Server(config).run(sockets=[found])
    else:
        Multiprocess(config, sockets=[found]).run()


def _app(redis_url: str, settings: GatewaySettings, traces: Tracing | None, level: Level, form: Format) -> FastAPI:
    """The application, in the process that answers."""
    configure_logs(level, form)
    app = create_app(redis_url, settings=settings, traces=traces)
    collect_seldom()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_behind, args=(parent,), name="parent", daemon=True).start()
    return app


def _end_behind(parent: BaseProcess) -> None:
    """Nobody would end this process, nor replace it, once the one that has started it is gone (`kill -9`)."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _config(make: partial[FastAPI], settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        make, factory=True, workers=settings.processes, log_config=None, access_log=False, server_header=False,
        lifespan="on", timeout_graceful_shutdown=int(settings.body_seconds) + _MORE,
        timeout_worker_healthcheck=_HUNG, **_sockets(settings),
    )  # fmt: skip


def _is_meant(record: logging.LogRecord) -> bool:
    """Uvicorn 0.54 takes a handshake that was answered by a problem for one that was not answered."""
    return record.msg != "ASGI callable returned without completing handshake."


def _sockets(settings: GatewaySettings) -> Any:
    """Options of WebSockets: a frame that is too large is not even kept, and who answers no ping has gone."""
    logging.getLogger("uvicorn.error").addFilter(_is_meant)
    return {
        # Below that level each handshake is logged as it came, credentials included.
        "log_level": "info",
        "http": Protocol, "ws": SocketProtocol, "ws_max_size": settings.body_bytes + AROUND,
        "ws_per_message_deflate": False, "ws_ping_interval": KEEP_ALIVE, "ws_ping_timeout": KEEP_ALIVE,
    }  # fmt: skip


class GatewayThread:
    """A gateway in a thread of this process: `with GatewayThread(url, settings) as address`.

    Args:
        redis_url: Address of the store.
        settings: Limits and address.
        traces: Where spans go.
    """

    def __init__(self, redis_url: str, settings: GatewaySettings, traces: Tracing | None = None) -> None:
        self._settings = settings
        self.app = create_app(redis_url, settings=settings, traces=traces)
        self._server = _Told(
            uvicorn.Config(
                self.app, log_config=None, access_log=False, server_header=False, lifespan="on",
                timeout_graceful_shutdown=int(settings.body_seconds) + _MORE, **_sockets(settings),
            )
        )  # fmt: skip
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> str:
        """Start; where it is reached.

        Raises:
            AddressTaken: Somebody else has the address.
            GatewayNotStarted: It has ended at once: the log says why.
        """
        self._socket = listen(self._settings)
        where = address_of_socket(self._socket)
        self._thread = threading.Thread(target=self._run, name="headrace-gateway", daemon=True)
        self._thread.start()
        self._server.up.wait()
        if not self._server.started:
            raise GatewayNotStarted
        return where

    def _run(self) -> None:
        assert self._socket is not None
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.up.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Answer what is open, and stop."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()


class _Told(uvicorn.Server):
    """A server that says when it is up, and lets those go who wait before it ends."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: FastAPI = self.config.app  # type: ignore[assignment]
        app.state.gateway.stop_waiting()
        await app.state.gateway.sessions.closed(_MORE)
        await super().shutdown(sockets)
