"""A Ray of one's own on loopback, for `run`, `dev` and tests: nothing of it outlives the process, or leaves a trace.

Ray is told where it listens, which token it asks for and how fast it notices failures by environment
variables, so they are set before Ray is initialised, and put back afterwards.
"""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import ray
import structlog
from ray.exceptions import RayError

from headrace.actors.spec import NAMESPACE
from headrace.workflows.errors import HeadraceError

log = structlog.get_logger(__name__)

_REAPER: Final = Path(__file__).with_name("reaper.py")
_OBJECT_STORE: Final = 100 << 20
"""Bytes; all that Headrace sends is small and travels with the calls."""
_SYSTEM_CONFIG: Final = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""Ray takes a hung host for dead after 3 to 4 seconds instead of a minute."""


class LocalRayError(HeadraceError):
    """The local Ray did not start."""


class LocalRay:
    """A Ray cluster on this machine, for this process.

    Everything of it lies in one folder under `/tmp` (the path of a Unix socket may have 107 characters only),
    which goes when it stops. It listens on loopback only, and asks for a token that lies in that folder.
    When this process dies, however it does, all processes of the cluster are gone within 5 seconds.

    Args:
        cpus: What Ray may give to nodes that ask for `cpus`; by default all there are. Headrace's own
            processes ask for next to nothing.
        gpus: GPUs; by default those that Ray finds.

    Examples:
        with LocalRay():
            cluster = start(deployment)
    """

    def __init__(self, *, cpus: int | None = None, gpus: int | None = None) -> None:
        self._cpus = cpus or os.cpu_count() or 1
        self._gpus = gpus
        self.folder: Path | None = None
        """Where all of it lies, while it runs."""
        self._reaper: subprocess.Popen[bytes] | None = None
        self._before: dict[str, str | None] = {}

    def start(self) -> None:
        """Start it and connect this process; 2 to 4 seconds.

        Call it on a thread that lives as long as the cluster is to live (the main thread): the
        operating system ends Ray's processes when the thread that started them ends.

        Raises:
            LocalRayError: This process is connected to a Ray already, or Ray does not start.
        """
        if ray.is_initialized():
            raise LocalRayError("This process is connected to a Ray cluster already. Call ray.shutdown() first.")
        folder = Path(tempfile.mkdtemp(prefix=f"headrace-{os.getuid()}-", dir="/tmp"))
        self.folder = folder
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_REAPER), str(folder), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is for the user's program
        )
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self._set_environment(token)
        on_main_thread = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with _interrupts_held():
                ray.init(**self._arguments(folder))
        except KeyboardInterrupt:
            self.stop()
            raise
        except (OSError, RuntimeError, ValueError, RayError) as error:
            self.stop()
            raise LocalRayError(f"Ray does not start here: {error}") from error
        finally:
            if on_main_thread:
                signal.signal(signal.SIGTERM, handler)  # Ray puts in its own, which ends the process at once
        _take_over_messages()
        log.debug("ray_started", folder=str(folder))

    def _arguments(self, folder: Path) -> dict[str, Any]:
        return {
            "address": "local",
            "namespace": NAMESPACE,
            "num_cpus": self._cpus,
            "num_gpus": self._gpus,
            "include_dashboard": False,
            "configure_logging": False,
            "log_to_driver": False,
            "object_store_memory": _OBJECT_STORE,
            "_temp_dir": str(folder),
            "_system_config": dict(_SYSTEM_CONFIG),  # Ray adds to it
        }

    def stop(self) -> None:
        """End all of it and remove its folder; idempotent."""
        if self.folder is None:
            return
        if ray.is_initialized():
            ray.shutdown()
        self._restore_environment()
        reaper, self._reaper, self.folder = self._reaper, None, None
        if reaper is not None:
            reaper.communicate(b"stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _set_environment(self, token: Path) -> None:
        wanted = {
            # Without this Ray takes the machine's outer address, and listens on every interface.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            # Without this Ray writes ~/.ray/auth_token, and a later `ray start --head` demands it.
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray's default of 15 makes its workers wait for whatever else runs, the broker beside them first.
            "RAY_worker_niceness": "0",
            # A call is a few hundred kilobytes; by way of Ray's object store it costs a quarter more CPU.
            "RAY_max_direct_call_object_size": str(16 << 20),
            # Each thread that allocates gets an arena of its own, whose free memory no other thread uses.
            "MALLOC_ARENA_MAX": "2",
        }
        self._before = {name: os.environ.get(name) for name in (*wanted, "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
        os.environ.update(wanted)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ.pop("RAY_ADDRESS", None)
        _read_environment_again()

    def _restore_environment(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}
        _read_environment_again()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C takes effect at the end of the block: a process that leaves Ray half started crashes at its exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        if handler is not None:  # else it was not set by Python, and can't be put back by it
            signal.signal(signal.SIGINT, handler)
        if interrupts and callable(handler):
            handler(interrupts[0], None)


def _take_over_messages() -> None:
    """Ray prints ten lines on standard output when a process dies, whatever `log_to_driver` says: into the log."""
    worker: Any = importlib.import_module("ray._private.worker")

    def note(data: dict[str, Any], ignore_prefix: bool) -> None:
        del ignore_prefix
        log.debug("ray_says", process=data.get("pid"), lines=data.get("lines"))

    worker.print_to_stdstream = note


def _read_environment_again() -> None:
    """Ray reads these variables once, when it is imported; other modules have done so by now."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    raylet: Any = importlib.import_module("ray._raylet")
    constants.ENABLE_RAY_CLUSTER = constants.env_bool(constants.ENABLE_RAY_CLUSTERS_ENV_VAR, True)
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
