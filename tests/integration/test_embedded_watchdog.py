"""No server outlives the process that started it, however that process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from headrace.embedded import ApacheKafka, Valkey
from waiting import until

SERVERS = ["Valkey()", "Tansu(cache=CACHE)"] + (["ApacheKafka(cache=CACHE)"] if ApacheKafka.missing() is None else [])

PARENT = """
import os, signal, sys
from pathlib import Path
from headrace.embedded import ApacheKafka, Tansu, Valkey
CACHE = Path(sys.argv[1])
server = {server}.start()
{then}
print(server.pid, server.folder, flush=True)
signal.pause()
"""


@dataclass
class Parent:
    """A process that started a server."""

    process: subprocess.Popen[str]
    server: int
    folder: Path


@pytest.fixture
def start_parent(cache: Path) -> Iterator[object]:
    parents: list[Parent] = []

    def start(server: str, then: str = "") -> Parent:
        code = PARENT.format(server=server, then=then)
        process = subprocess.Popen([sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while True:
            line = process.stdout.readline()
            assert line, "the parent ended before its server was up"
            pid, _, folder = line.strip().partition(" ")
            if pid.isdecimal():
                break
        parents.append(Parent(process, int(pid), Path(folder)))
        return parents[-1]

    yield start
    for parent in parents:
        parent.process.kill()
        parent.process.communicate()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("server", SERVERS)
def test_a_parent_killed_with_9_leaves_no_server_and_no_folder(start_parent, server: str) -> None:
    parent = start_parent(server)
    watchdog = psutil.Process(parent.server).ppid()

    parent.process.kill()

    until(lambda: is_gone(parent.server), "the server is gone", within=5)
    until(lambda: is_gone(watchdog), "its watchdog is gone", within=5)
    until(lambda: not parent.folder.exists(), "its temporary folder is gone", within=5)


def test_a_fork_that_holds_the_pipe_keeps_no_server_alive(start_parent) -> None:
    parent = start_parent("Valkey()", then="fork = os.fork()\nif fork == 0: signal.pause()\nprint('fork', fork)")
    fork = next(child for child in psutil.Process(parent.process.pid).children() if is_copy_of_python(child))

    parent.process.kill()

    try:
        until(lambda: is_gone(parent.server), "the server is gone", within=5)
        assert fork.is_running()
    finally:
        fork.kill()


def is_copy_of_python(process: psutil.Process) -> bool:
    return "watchdog.py" not in " ".join(process.cmdline())


def test_a_server_without_its_watchdog_dies() -> None:
    with Valkey() as server:
        pid = server.pid
        watchdog = psutil.Process(pid).parent()
        assert watchdog is not None

        watchdog.kill()

        until(lambda: is_gone(pid), "the server is gone", within=5)


def test_a_server_lives_on_when_the_thread_that_started_it_ends() -> None:
    server = Valkey()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert server.running
        assert server.restart().running
    finally:
        server.stop()


def test_a_server_that_somebody_else_killed_is_seen_as_ended() -> None:
    with Valkey() as server:
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running, "the server counts as ended")
        assert server.restart().running


def test_a_suspended_server_can_be_stopped() -> None:
    server = Valkey().start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)

    server.kill()

    assert is_gone(pid)
    server.stop()
