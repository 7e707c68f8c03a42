"""The readings of the demo: hourly temperatures of Seattle and San Francisco in 2010."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import vega_datasets  # type: ignore[import-untyped]
from temperature_workflow import Reading

CITIES: Final = {"seattle": "seattle-temps.csv", "san-francisco": "sf-temps.csv"}
PLACES: Final = {"street": 0.0, "roof": 3.0, "park": -2.5}
"""Three sensors a city: degrees Celsius that each of them differs from the city's temperature."""
_FOLDER: Final = Path(vega_datasets.__file__).parent / "_data"


def readings(limit: int | None = None) -> list[Reading]:
    """What all sensors send, in the order of time.

    Args:
        limit: About how many of the 17,518 rows of the files to take, spread over the whole year.
    """
    rows = [(time, city, celsius) for city, file in CITIES.items() for time, celsius in temperatures(file, limit)]
    rows.sort()
    return [
        Reading(f"{city}/{place}", time, round(celsius + offset, 2))
        for time, city, celsius in rows
        for place, offset in PLACES.items()
    ]


def temperatures(file: str, limit: int | None = None) -> list[tuple[datetime, float]]:
    """Time and degrees Celsius of one city; columns are read by name, as the two files have them in different order."""
    with (_FOLDER / file).open(newline="") as opened:
        rows = [(_time(row["date"]), celsius(float(row["temp"]))) for row in csv.DictReader(opened)]
    count = len(rows) if limit is None else max(1, min(len(rows), limit // len(CITIES)))
    return [rows[index * len(rows) // count] for index in range(count)]


def celsius(fahrenheit: float) -> float:
    """Degrees Celsius, to a hundredth."""
    return round((fahrenheit - 32) * 5 / 9, 2)


def _time(text: str) -> datetime:
    """`2010/01/01 00:00`, with or without seconds; the files give no time zone, so it is taken for UTC."""
    return datetime.strptime(text[:16], "%Y/%m/%d %H:%M").replace(tzinfo=UTC)
