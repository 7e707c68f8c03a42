"""The same sums without Headrace, in one loop: what the cluster's states and alerts must be equal to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temperature_workflow import Reading

States = dict[str, dict[str, Any]]
"""Sensor -> node -> its state."""


@dataclass
class Expected:
    """What must come out."""

    states: States = field(default_factory=dict)
    alerts: list[tuple[str, str, str, float, float]] = field(default_factory=list)
    """Sensor, time, level, degrees, change: sorted."""
    middles: dict[str, list[float]] = field(default_factory=dict)
    """Sensor -> for each of its readings, the middle that its thresholds are given from."""

    @property
    def actions(self) -> dict[str, int]:
        """How often each action was chosen, all sensors together."""
        levels = [nodes["classify"] for nodes in self.states.values()]
        return {name: sum(level[name] for level in levels) for name in ("low", "normal", "high", "critical")}


def compute(readings: Iterable[Reading]) -> Expected:
    """One sensor after the other; the thresholds are repeated here on purpose."""
    by_sensor: dict[str, list[Reading]] = {}
    for reading in readings:
        by_sensor.setdefault(reading.sensor, []).append(reading)
    expected = Expected()
    for sensor, own in by_sensor.items():
        expected.states[sensor] = _sensor(sensor, own, expected)
    expected.alerts.sort()
    return expected


def _sensor(sensor: str, readings: list[Reading], expected: Expected) -> dict[str, Any]:
    values = [reading.celsius for reading in readings]
    levels = {"low": 0, "normal": 0, "high": 0, "critical": 0}
    told: dict[str, Any] = {}
    middles = expected.middles[sensor] = []
    count, mean, season = 0, 0.0, 12.0
    for index, reading in enumerate(readings):
        count, mean = count + 1, mean + (reading.celsius - mean) / (count + 1)
        middles.append((12.0 + season) / 2)
        above = reading.celsius - middles[-1]
        level = "critical" if above >= 10 else "high" if above >= 7 else "low" if above <= -6 else "normal"
        levels[level] += 1
        last = told.get(level)
        if level != "normal" and (last is None or reading.time - last["last"] >= timedelta(hours=6)):
            told[level] = {"alerts": (last["alerts"] if last else 0) + 1, "last": reading.time}
            change = round(reading.celsius - values[max(0, index - 23)], 2)
            expected.alerts.append((sensor, _text(reading.time), level, reading.celsius, change))
        day, hour = divmod(index + 1, 24)
        if hour == 0:
            means = [sum(values[d * 24 : d * 24 + 24]) / 24 for d in range(max(0, day - 14), day)]
            season = sum(means) / len(means)
    assert math.isclose(mean, math.fsum(values) / len(values), rel_tol=1e-9)
    days = len(values) // 24
    states: dict[str, Any] = {
        "observe": {"count": count, "mean": mean, "history": values[-24:], "season": season},
        "season": {
            "today": values[days * 24 :],
            "means": [sum(values[d * 24 : d * 24 + 24]) / 24 for d in range(max(0, days - 14), days)],
        },
        "classify": levels,
    }
    for level, state in told.items():
        states[level] = {"alerts": state["alerts"], "last": _text(state["last"])}
    return states


def _text(time: Any) -> str:
    return str(time.isoformat()).replace("+00:00", "Z")
