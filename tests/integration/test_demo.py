"""The demo as its users run it: a program of its own, on servers of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from waiting import until

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "temperature.py"
YEAR = 17_518
PNG = b"\x89PNG\r\n\x1a\n"


def run_demo(*options: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit status, the object in the last line, and everything it wrote."""
    command = [sys.executable, str(DEMO), *map(str, options)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=200)
    output = ran.stdout + ran.stderr
    assert ran.stdout.strip(), output
    return ran.returncode, json.loads(ran.stdout.strip().rpartition("\n")[2]), output


@pytest.fixture(scope="module")
def thinned_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], str]:
    """One run over 2,000 readings of the year."""
    return run_demo("--readings", "2000", "--plot", tmp_path_factory.mktemp("demo") / "pictures" / "year.png")


@pytest.mark.slow
def test_a_thinned_out_year_is_equal_to_the_offline_computation(thinned_out: tuple[int, dict[str, Any], str]) -> None:
    status, summary, output = thinned_out

    assert status == 0, output
    assert summary["equal_to_offline"] is True
    assert summary["events"] == 6000
    assert summary["alerts"] > 0
    assert summary["events_per_second"] > 0
    assert min(summary["actions"].values()) >= 20


@pytest.mark.slow
def test_it_draws_a_picture(thinned_out: tuple[int, dict[str, Any], str]) -> None:
    _, summary, _ = thinned_out

    assert Path(summary["plot"]).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_an_unkeyed_workflow_ends_by_a_critical_temperature(thinned_out: tuple[int, dict[str, Any], str]) -> None:
    _, summary, output = thinned_out

    assert summary["channel_variant"] == "terminated", output
    assert summary["channel_as_expected"] is True, output


@pytest.mark.slow
@pytest.mark.parametrize("role", ["node", "worker"])
def test_a_process_killed_half_way_changes_no_state_and_loses_no_alert(role: str, tmp_path: Path) -> None:
    status, summary, output = run_demo("--kill", role, "--plot", tmp_path / "year.png")

    assert "Killed with -9" in output
    assert status == 0, output
    assert summary["events"] == 3 * YEAR


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["raylet", "ray::Shell"], ids=["while Ray starts", "while the workflow runs"])
def test_ctrl_c_leaves_nothing_running(moment: str, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(DEMO), "--plot", str(tmp_path / "year.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        # a shell's background job, or a service, hands an ignored signal down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    processes = descendants_once(demo, moment)

    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, output
    assert "Traceback" not in output
    until(lambda: not any(map(is_alive, processes)), "all its processes are gone")


def descendants_once(demo: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """All processes below the demo's, once one of them has `name` in its own."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = psutil.Process(demo.pid).children(recursive=True)
        return any(name in name_of(process) for process in found)

    until(look, f"a process {name} is there", within=60)
    return found


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:  # it has ended meanwhile
        return ""


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
