"""A server process under a watchdog: it ends when we do, also when we are killed with -9."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from headrace.embedded import watchdog


class GuardedProcess:
    """Started at once; ended by `stop`, `kill`, or the end of this process.

    Args:
        command: Program and arguments.
        log: File that gets what the program writes, appended.
        environment: Variables added to ours.
        remove: Folder that the watchdog removes when this process dies without having stopped the program.

    Raises:
        OSError: The program can't be started.

    Attributes:
        pid: Process id of the program itself (not of its watchdog).
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        remove: Path | None = None,
    ) -> None:
        options = ["--parent", str(os.getpid()), "--log", str(log)]
        if remove is not None:
            options += ["--remove", str(remove)]
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C in a terminal is for us: we end our servers in order
        )
        assert self._watchdog.stdout is not None
        with self._watchdog.stdout as answer:
            line = answer.readline().decode().strip()
        if not line.isdecimal():
            self._close_orders()
            self._watchdog.wait()
            raise OSError(f"can't start {command[0]}: {line.removeprefix('error: ') or 'its watchdog ended'}")
        self.pid = int(line)

    @property
    def running(self) -> bool:
        """Whether the program has not ended yet."""
        return self._watchdog.poll() is None

    def stop(self, grace: timedelta) -> None:
        """Ask the program to end; kill it after `grace`. Returns when it has ended."""
        self._order(watchdog.TERMINATE)
        try:
            self._watchdog.wait(grace.total_seconds())
        except subprocess.TimeoutExpired:
            self.kill()
        self._close_orders()

    def kill(self) -> None:
        """End the program with SIGKILL. Returns when it has ended."""
        self._order(watchdog.KILL)
        self._watchdog.wait()
        self._close_orders()

    def exit_status(self) -> int | None:
        """Exit status as a shell would give it (128 + number of the signal); None while it runs."""
        return self._watchdog.poll()

    def _order(self, order: bytes) -> None:
        if self.running and self._watchdog.stdin is not None:
            try:
                self._watchdog.stdin.write(order)
                self._watchdog.stdin.flush()
            except BrokenPipeError:
                return  # it has just ended: nothing is left to be told

    def _close_orders(self) -> None:
        if self._watchdog.stdin is not None:
            try:
                self._watchdog.stdin.close()
            except BrokenPipeError:
                return  # an order that was never read is of no use any more
