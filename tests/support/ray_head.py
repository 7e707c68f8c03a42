"""A Ray head on loopback, started as an operator does (`ray start --head`), with a token and folder of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

from headrace.actors import reaper
from headrace.embedded.ports import LOOPBACK, free_port
from waiting import until

_WORKER_PORTS: Final = 200


class RayHead:
    """Can be killed as a whole, and started again at the same addresses, as an operator (or Kubernetes) would.

    Whatever happens to the test session: a reaper ends all of it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-head-", dir="/tmp"))  # socket paths must be short
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        self._port, self._client_port = free_port(), free_port()
        self.address = f"{LOOPBACK}:{self._port}"
        self.client_address = f"ray://{LOOPBACK}:{self._client_port}"
        self.environment = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # everything listens on loopback only
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "150",  # 30 seconds are too few where everything is busy
            "HOME": str(self.folder),
            "HEADRACE_CACHE": str(self.folder / "cache"),
        }
        self._starts = 0
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(reaper.__file__)), str(self.folder), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(self) -> Self:
        """Start it; about six seconds on a quiet machine."""
        self._starts += 1
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--node-ip-address", LOOPBACK,
            "--port", str(self._port), "--ray-client-server-port", str(self._client_port),
            "--min-worker-port", "0", "--max-worker-port", "0", "--include-dashboard", "false",
            "--dashboard-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port()),
            "--include-log-monitor", "false", "--num-cpus", "4", "--object-store-memory", str(80 << 20),
            "--temp-dir", str(self.folder / f"ray{self._starts}"), "--disable-usage-stats",
        ]  # fmt: skip
        started = subprocess.run(
            command, env=os.environ | self.environment, cwd=self.folder, capture_output=True, text=True, timeout=170,
            check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        return self

    def kill(self) -> None:
        """`kill -9` of everything that belongs to it: head, raylet, actors."""
        folder = self.folder / f"ray{self._starts}"

        def none_left() -> bool:
            left = reaper.processes_of(folder) - {os.getpid(), self._reaper.pid}
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return not left

        until(none_left, "all processes of the head are gone")

    def stop(self) -> None:
        """End it, and remove its folder."""
        self._reaper.communicate(b"stopped")


class Ran:
    """A command that has ended, typed where a head is known.

    Args:
        folder: Where it is typed.
        head: Whose address and token it knows.
        arguments: What is typed.
        environment: More variables; None: not this one.
    """

    def __init__(self, folder: Path, head: RayHead, *arguments: str, **environment: str | None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "RAY_"))}
        here: dict[str, str | None] = {"HEADRACE_CACHE": str(folder / ".cache"), "WEIGHING_TOKEN": None}
        wanted = kept | head.environment | here | environment
        started = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "headrace", *arguments], cwd=folder, capture_output=True, text=True, timeout=180,
            check=False, stdin=subprocess.DEVNULL,
            env={name: value for name, value in wanted.items() if value is not None},
        )  # fmt: skip
        self.seconds = time.monotonic() - started
        self.code, self.out, self.error = ran.returncode, ran.stdout, ran.stderr
        self.text = self.out + self.error

    @property
    def json(self) -> Any:
        """What was printed with `-o json`."""
        assert self.code == 0, self.text
        return json.loads(self.out)
