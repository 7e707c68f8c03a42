"""Workers as plain processes, without Ray and supervisor: to crash them at a named point, suspend them, or have two."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headrace.actors.spec import Deployment
from ledger import PARTITIONS
from waiting import until

PROGRAM = Path(__file__).with_name("solo_program.py")


class Deployed(Protocol):
    """What a worker is of: a rig, or something smaller."""

    @property
    def deployment(self) -> Deployment:
        """Which is not started."""
        ...


class Solo:
    """One worker's process that owns partitions of a rig's deployment.

    Args:
        rig: Whose deployment; made with `fuse=True`, and not started.
        index: Of the worker.
        placement: A larger one takes partitions from a smaller one.
        partitions: Which; by default all.
        crash_at: Name of the crash point at which it kills itself.
        backlog: Outputs that may wait in it; by default as many as in life.
    """

    def __init__(
        self,
        rig: Deployed,
        *,
        index: int = 0,
        placement: int = 1,
        partitions: tuple[int, ...] = tuple(range(PARTITIONS)),
        crash_at: str | None = None,
        backlog: int | None = None,
    ) -> None:
        settings = {
            "deployment": msgspec.to_builtins(rig.deployment),
            "index": index,
            "placement": placement,
            "partitions": partitions,
            "backlog": backlog,
        }
        environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent)}
        if crash_at is not None:
            environment["HEADRACE_CRASH_AT"] = crash_at
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed when it is killed
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment,
        )  # fmt: skip
        self.told: list[dict[str, Any]] = []
        self._statuses: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            what = json.loads(line)
            if "status" in what:
                self._statuses.put(what["status"])
            else:
                self.told.append(what)

    def owned(self) -> Solo:
        """Wait until it has acquired its partitions."""
        until(lambda: any("owned" in what for what in self.told) or self.crashed, "the worker owns its partitions")
        return self

    def story(self) -> str:
        """What it has reported, how it is, and the end of its log: for a test that fails."""
        status: Any = "it does not say"
        with contextlib.suppress(queue.Empty, OSError):
            status = self.status()
        self._errors.seek(0)
        log = self._errors.read().decode(errors="replace")[-8000:]
        return f"reports: {self.told}\nstatus: {status}\nlog:\n{log}"

    @property
    def crashed(self) -> bool:
        """Has it killed itself (or was it killed)?"""
        return self.process.poll() == -signal.SIGKILL

    def lost(self) -> dict[int, str]:
        """Partitions that it has reported as lost, and the reasons."""
        return {what["partition"]: what["reason"] for what in list(self.told) if what.get("report") == "PartitionLost"}

    def status(self) -> dict[str, Any]:
        """Its engine's status now."""
        assert self.process.stdin is not None
        self.process.stdin.write("status\n")
        self.process.stdin.flush()
        return self._statuses.get(timeout=20)

    def suspend(self) -> None:
        """Stop it where it is."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def solo(rig: Deployed, **options: Any) -> Iterator[Solo]:
    """A `Solo` that is gone afterwards."""
    worker = Solo(rig, **options)
    try:
        yield worker.owned()
    except AssertionError as error:
        error.add_note(worker.story())
        raise
    finally:
        worker.kill()
