"""A local Ray leaves nothing behind: no process, no folder, nothing in the home, nothing in the environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace.actors.local_ray import LocalRay, LocalRayError
from headrace.actors.reaper import processes_of
from waiting import until

PROGRAM = Path(__file__).with_name("local_ray_program.py")

pytestmark = pytest.mark.cluster


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process with a local Ray of its own, and what it says of it."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    yield process, json.loads(line)
    process.kill()
    process.wait()


Program = tuple[subprocess.Popen[str], dict[str, Any]]


def test_nothing_is_left_when_the_process_is_killed(program: Program) -> None:
    process, said = program
    folder = Path(said["folder"])
    assert len(processes_of(folder)) > 3

    process.kill()
    process.wait()

    until(lambda: not processes_of(folder), "all processes of that Ray are gone", within=8)
    until(lambda: not folder.exists(), "its folder is gone", within=8)


@pytest.mark.parametrize("how", ["end of the program", "ctrl-c"])
def test_nothing_is_left_when_the_process_ends(program: Program, how: str) -> None:
    process, said = program
    folder = Path(said["folder"])

    if how == "ctrl-c":
        process.send_signal(signal.SIGINT)
    process.communicate()

    assert not processes_of(folder)
    assert not folder.exists()


def test_the_home_is_not_touched_and_the_token_is_nobody_elses(program: Program, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    token = Path(program[1]["folder"]) / "token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.stat().st_uid == os.getuid()


def test_it_listens_on_loopback_only(program: Program) -> None:
    folder = Path(program[1]["folder"])
    addresses = {
        connection.laddr.ip
        for pid in processes_of(folder)
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.type == socket.SOCK_STREAM
    }

    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert addresses


def test_a_second_one_in_the_same_process_is_refused(ray_cluster: LocalRay) -> None:
    with pytest.raises(LocalRayError, match="connected to a Ray cluster already"):
        LocalRay().start()
