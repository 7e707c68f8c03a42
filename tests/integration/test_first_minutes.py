"""A new user's first minutes: install the wheel, make a project, test it, run it, change it, stop it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from brokers import CACHE
from command_line import Headrace

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
READINGS = [f'{{"sensor": "kitchen", "celsius": {celsius}}}' for celsius in (20, 21, 20, 31)]
Timed = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def timed(record_property: Callable[[str, object], None]) -> Iterator[Timed]:
    """Notes how long each step takes, one `with` each."""
    taken: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        taken[step] = round(time.monotonic() - began, 1)
        record_property(step, taken[step])

    yield timed
    print("seconds:", taken)


def call(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PYTEST_"))}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def wheel(folder: Path) -> Path:
    """Built from a copy of what git tracks: building leaves files beside the sources."""
    tracked = call("git", "ls-files", "-z", cwd=ROOT)
    for name in filter(None, tracked.split("\0")):
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).exists():
            shutil.copyfile(ROOT / name, target)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    call(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, folder / "source", cwd=folder)
    return next(folder.glob("headrace-*.whl"))


def installed(folder: Path, wheel: Path) -> Path:
    """The programs of a new environment with the wheel and pytest, from the index as it is set up; else a skip."""
    programs = folder / "env" / "bin"
    wanted = [f"{wheel}[embedded]", "pytest"]
    uv = shutil.which("uv")
    if uv:
        call(uv, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", programs / "python", *wanted]
    else:
        call(sys.executable, "-m", "venv", folder / "env", cwd=folder)
        install = [programs / "python", "-m", "pip", "install", "--quiet", *wanted]
    ran = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"its dependencies can't be had here: {ran.stderr.strip().splitlines()[-1]}")
    return programs


def test_from_the_wheel_to_a_change_that_is_seen(tmp_path: Path, timed: Timed) -> None:
    with timed("build"):
        built = wheel(tmp_path)
    with timed("install"):
        programs = installed(tmp_path, built)

    with timed("new"):
        said = call(programs / "headrace", "new", "thermometers", cwd=tmp_path)
    project = tmp_path / "thermometers"
    assert "headrace dev flow.py" in said
    with timed("its test"):
        assert "2 passed" in call(programs / "pytest", "-q", cwd=project)

    (project / ".headrace").mkdir()
    (project / ".headrace" / "cache").symlink_to(CACHE)
    dev = Headrace(project, "dev", "flow.py", "--reload", "--no-live", program=[programs / "headrace"])
    try:
        with timed("dev, until it runs"):
            dev.says("running, after", within=120)
        with timed("the first events"):
            call(programs / "python", ".headrace/send_readings.py", *READINGS, cwd=project)
            dev.says("events 4  ")
            dev.says("outputs 1   dead letters 0")
        assert '"count": 4' in call(programs / "headrace", "runs", "show", "thermometers/kitchen", cwd=project)

        flow = project / "flow.py"
        with timed("a change, until it runs"):
            flow.write_text(flow.read_text().replace("above=5.0", "above=0.5"))
            dev.says("reloaded, ")
        call(programs / "python", ".headrace/send_readings.py", '{"sensor": "kitchen", "celsius": 24}', cwd=project)
        dev.says("outputs 2   dead letters 0")

        with timed("the end"):
            call(programs / "headrace", "stop", "thermometers", cwd=project)
            assert dev.ends() == 0
        assert "thermometers has stopped: 5 events, 2 outputs, 0 dead letters." in dev.text
    finally:
        dev.process.kill()
        dev.process.wait()
