"""The benchmark's work: the same each time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]


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
