"""What all embedded servers can do: start, stop, be killed, restart on the same port and folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import structlog

from headrace.embedded.errors import ServerFailed, ServerMissing
from headrace.embedded.ports import free_port
from headrace.embedded.process import GuardedProcess

_log = structlog.get_logger("headrace.embedded")
_LOG_LINES = 30
_LOG_BYTES = 16_384


class Server(ABC):
    """A server on the loopback interface that dies with this process.

    All calls block; from a coroutine use `await asyncio.to_thread(server.start)`. As a context manager
    it starts on entry and stops on exit.

    Args:
        folder: Where its data and log are kept. None: a temporary folder, removed by `stop`.
        port: Port to listen on. None: a free one. It stays the same for the life of this object.
        start_within: How long `start` waits for the first answer.
        stop_within: How long `stop` waits before it kills.
    """

    name: ClassVar[str]
    """As shown to people: `Valkey`, `Apache Kafka`, `Tansu`."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        port: int | None = None,
        start_within: timedelta = timedelta(seconds=30),
        stop_within: timedelta = timedelta(seconds=10),
    ) -> None:
        self._ephemeral = folder is None
        self._folder = folder.absolute() if folder is not None else None
        self._port = port
        self._start_within = start_within
        self._stop_within = stop_within
        self._process: GuardedProcess | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Why this server can't be had on this machine, and the cure; None: it can."""

    @abstractmethod
    def _prepare(self) -> None:
        """Called before each start, with folder and port known: download, write configuration, format."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Program and arguments that listen on `port` and keep their data in `folder`."""

    def _environment(self) -> Mapping[str, str]:
        """Variables for the program, added to ours."""
        return {}

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server is up; called again until it is. Takes a few seconds at most."""

    @property
    def port(self) -> int:
        """Port it listens on.

        Raises:
            RuntimeError: Never started, so none is chosen yet.
        """
        if self._port is None:
            raise RuntimeError(f"{self.name} has no port before its first start")
        return self._port

    @property
    def folder(self) -> Path:
        """Where its data and log lie.

        Raises:
            RuntimeError: None is chosen yet, or the temporary one is gone.
        """
        if self._folder is None:
            raise RuntimeError(f"{self.name} has a folder of its own only while it is started")
        return self._folder

    @property
    def pid(self) -> int:
        """Process id of the server.

        Raises:
            RuntimeError: It is not started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives (it may be suspended)."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> Path:
        """File with what the server writes."""
        return self.folder / "server.log"

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ServerMissing: It can't be had on this machine.
            ServerFailed: It ended, or gave no answer in time; the error has the end of its log.
            RuntimeError: It is running already.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running already (process {self.pid})")
        reason = self.missing()
        if reason is not None:
            raise ServerMissing(self.name, reason)
        began = time.monotonic()
        if self._folder is None:
            self._folder = self._temporary_folder()
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._port is None:
            self._port = free_port()
        self._prepare()
        try:
            self._process = GuardedProcess(
                self._command(),
                log=self.log,
                environment=self._environment(),
                remove=self._folder if self._ephemeral else None,
            )
        except OSError as error:
            raise ServerFailed(self.name, str(error), self.log_tail()) from error
        self._wait_until_it_answers()
        _log.info(
            "server_started",
            server=self.name,
            port=self._port,
            pid=self._process.pid,
            seconds=round(time.monotonic() - began, 2),
        )
        return self

    def stop(self) -> None:
        """End it in order and remove a temporary folder; nothing happens when it is not started."""
        if self._process is not None:
            self._process.stop(self._stop_within)
            self._process = None
        if self._ephemeral and self._folder is not None:
            _remove(self._folder, os.getpid())
            self._folder = None

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; its folder stays, for `start` or `restart`."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> Self:
        """End it in order if it runs, and start it again on the same port and folder.

        Raises:
            ServerFailed: As `start`.
        """
        if self._process is not None:
            self._process.stop(self._stop_within)
            self._process = None
        return self.start()

    def log_tail(self) -> str:
        """The last lines that the server wrote; empty when there are none."""
        if self._folder is None or not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])

    def _temporary_folder(self) -> Path:
        """A folder that goes with `stop`, else with this object, also when its server was killed or never came up."""
        folder = Path(tempfile.mkdtemp(prefix=f"headrace-{type(self).__name__.lower()}-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_within.total_seconds()
        while True:
            if not self._process.running:
                status = self._process.exit_status()
                self._process = None
                raise ServerFailed(self.name, f"ended at start with status {status}", self.log_tail())
            if self._answers():
                return
            if time.monotonic() > deadline:
                self.kill()
                seconds = self._start_within.total_seconds()
                raise ServerFailed(self.name, f"gave no answer on port {self.port} in {seconds:g} s", self.log_tail())
            time.sleep(0.02)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork that ends must not take its parent's data along
        shutil.rmtree(folder, ignore_errors=True)
