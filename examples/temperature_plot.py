"""A picture of the year: the temperatures of each sensor, what is usual there, and the alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from matplotlib import dates as untyped_dates
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from temperature_offline import Expected
from temperature_workflow import CRITICAL, HIGH, LOW, Reading

LEVELS: Final = {"low": ("#1f77b4", "v"), "high": ("#ff7f0e", "^"), "critical": ("#d62728", "X")}
"""Colour and marker."""
dates: Any = untyped_dates
_CITIES: Final = {"seattle": "Seattle", "san-francisco": "San Francisco"}


def plot(readings: Sequence[Reading], expected: Expected, path: Path) -> None:
    """Draw one panel for each sensor, a row for each city.

    Args:
        readings: All of them.
        expected: With the alerts and thresholds.
        path: Where the PNG goes; its folder is made.
    """
    by_sensor: dict[str, list[Reading]] = {}
    for reading in readings:
        by_sensor.setdefault(reading.sensor, []).append(reading)
    picture = Figure(figsize=(14, 7.5), layout="constrained")
    places = len(by_sensor) // len(_CITIES)
    panels = picture.subplots(len(_CITIES), places, sharex=True, sharey=True).flatten()
    order = sorted(by_sensor, key=lambda sensor: [*_CITIES].index(sensor.partition("/")[0]))
    for panel, sensor in zip(panels, order, strict=True):
        _panel(panel, sensor, by_sensor[sensor], expected)
    for panel in panels[::places]:
        panel.set_ylabel("°C")
    picture.suptitle(f"Temperatures of 2010, and {len(expected.alerts)} alerts on them", fontsize=15)
    picture.legend(handles=_legend(), loc="outside lower center", ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=130)


def _panel(panel: Any, sensor: str, readings: Sequence[Reading], expected: Expected) -> None:
    times = [reading.time for reading in readings]
    middles = expected.middles[sensor]
    low, high, critical = ([middle + distance for middle in middles] for distance in (LOW, HIGH, CRITICAL))
    panel.fill_between(times, low, high, color="#e8f1e4", linewidth=0)
    panel.plot(times, critical, color=LEVELS["critical"][0], linewidth=0.8, linestyle=(0, (4, 3)))
    panel.plot(times, [reading.celsius for reading in readings], color="#93a1ad", linewidth=0.35)
    city, _, place = sensor.partition("/")
    counts = []
    for level, (colour, marker) in LEVELS.items():
        rows = [row for row in expected.alerts if row[0] == sensor and row[2] == level]
        at = [datetime.fromisoformat(row[1]) for row in rows]
        panel.scatter(at, [row[3] for row in rows], s=11, color=colour, marker=marker, linewidths=0, zorder=3)
        if rows:
            counts.append(f"{len(rows)} {level}")
    panel.set_title(f"{_CITIES[city]}, {place}", loc="left", fontsize=11)
    panel.set_title(", ".join(counts), loc="right", fontsize=9, color="#555555")
    panel.xaxis.set_major_locator(dates.MonthLocator(bymonth=(1, 3, 5, 7, 9, 11)))
    panel.xaxis.set_major_formatter(dates.DateFormatter("%b"))
    panel.margins(x=0)
    panel.grid(color="#dddddd", linewidth=0.5)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _legend() -> list[Any]:
    alerts = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=f"alert: {level}")
        for level, (colour, marker) in LEVELS.items()
    ]
    return [
        Line2D([], [], color="#93a1ad", linewidth=1, label="temperature, hourly"),
        Patch(color="#e8f1e4", label="normal, by the season"),
        Line2D([], [], color=LEVELS["critical"][0], linewidth=0.8, linestyle="--", label="critical from here"),
        *alerts,
    ]
