"""The benchmark's own parts: the same work each time, and CPU time of a whole tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
BURN = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_readings_are_the_same_each_time_of_the_stated_size_and_four_in_a_hundred_are_hot() -> None:
    from benchmarks import workload  # noqa: PLC0415  needs the root on the path

    made = [reading for _, reading in workload.readings(20_000)]

    assert made == [reading for _, reading in workload.readings(20_000)]
    sizes = [len(msgspec.json.encode(reading)) for reading in made]
    assert 70 < sum(sizes) / len(sizes) < 90
    assert len({reading.sensor for reading in made}) == workload.KEYS
    hot = sum(reading.celsius > workload.HOT_CELSIUS for reading in made)
    assert 0.03 < hot / len(made) < 0.05


def test_cpu_time_counts_children_that_have_ended_and_leaves_out_what_it_is_told_to() -> None:
    from benchmarks.cpu import CpuMeter  # noqa: PLC0415  needs the root on the path

    # Given a process that stays until told, whose child burns CPU time and ends.
    keeper = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); input()"],
        stdin=subprocess.PIPE,
    )
    try:
        whole, without = CpuMeter([os.getpid()]), CpuMeter([os.getpid()], without=[keeper.pid])
        own = CpuMeter([keeper.pid])
        while own.seconds() < 0.3:
            os.sched_yield()

        assert whole.seconds() - without.seconds() >= 0.25
    finally:
        keeper.communicate(b"\n")
