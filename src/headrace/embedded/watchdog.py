"""Runs one server and ends it when the process that asked for it is gone, however that one ended.

A program of its own, run by path and without site-packages, so that it starts in 30 ms:
`python -I -S watchdog.py --parent PID --log FILE [--remove FOLDER] -- COMMAND...`. It writes the server's
process id to its standard output, obeys one-letter orders on its standard input, and exits as the server
did. The end of its input means that the parent has died.

Why not only `PR_SET_PDEATHSIG`: that signal comes when the *thread* dies that started the child, and
not every system has it. Here the only thread of a small process starts the server, so the signal is
right as a second line: it ends the server when this watchdog itself is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

TERMINATE: Final = b"T"
KILL: Final = b"K"

_GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL for a server whose owner is gone."""
_LOOK_EVERY: Final = 0.5
"""Seconds between looks at the parent: a fork of the parent may hold the pipe open."""
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends, is ordered to, or the parent is gone; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--remove")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)

    wake = _wake_on_child_end()
    with open(options.log, "ab") as log:  # noqa: PTH123 (pathlib would double the time to start)
        try:
            server = subprocess.Popen(
                options.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 (safe: this process has one thread)
            )
        except OSError as error:
            os.write(1, f"error: {error}\n".encode())
            return 127
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())
    os.write(1, f"{server.pid}\n".encode())

    if not _serve(server, options.parent, wake):
        _end(server)
        if options.remove:
            shutil.rmtree(options.remove, ignore_errors=True)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _serve(server: subprocess.Popen[bytes], parent: int, wake: int) -> bool:
    """Pass on orders until the server has ended (true) or the parent is gone (false)."""
    orders = sys.stdin.fileno()
    while server.poll() is None:
        ready, _, _ = select.select([orders, wake], [], [], _LOOK_EVERY)
        if wake in ready:
            os.read(wake, 64)
        if orders in ready:
            order = os.read(orders, 1)
            if not order:
                return False
            server.send_signal(signal.SIGKILL if order == KILL else signal.SIGTERM)
        if os.getppid() != parent:
            return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    deadline = time.monotonic() + _GRACE
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    server.kill()
    server.wait()


def _wake_on_child_end() -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def _die_with(watchdog: int) -> Callable[[], None]:
    """What the child does before it becomes the server: ask to be killed when the watchdog dies."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):  # no Linux: the pipe alone must do
        return lambda: None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != watchdog:  # it died before we asked
            os._exit(1)

    return ask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
