"""The benchmark's work, the same for every system: keyed count and mean of readings, alerts for the hot ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

EVENTS: Final = 300_000
KEYS: Final = 1_000
PARTITIONS: Final = 4
MEAN_CELSIUS: Final = 25.0
SPREAD_CELSIUS: Final = 4.0
HOT_CELSIUS: Final = 32.0
"""Above it a reading becomes an alert: 4 % of them."""
SEED: Final = 20_100_101
FIRST_TIME_MS: Final = 1_767_225_600_000
"""2026-01-01 UTC; one reading each millisecond."""


class Reading(msgspec.Struct, frozen=True):
    """What a sensor measured; about 80 bytes of JSON."""

    sensor: str
    celsius: float
    time: int
    """Milliseconds since 1970 UTC."""
    battery: int


class Alert(msgspec.Struct, frozen=True):
    """A reading that was too hot."""

    sensor: str
    celsius: float


def sensor_name(number: int) -> str:
    """The run key of sensor `number`."""
    return f"sensor-{number:07d}"


def readings(events: int = EVENTS, keys: int = KEYS, seed: int = SEED) -> Iterator[tuple[int, Reading]]:
    """The same readings for the same arguments: number of the sensor, and what it measured."""
    chance = random.Random(seed)
    names = [sensor_name(number) for number in range(keys)]
    for index in range(events):
        number = chance.randrange(keys)
        celsius = round(chance.gauss(MEAN_CELSIUS, SPREAD_CELSIUS), 3)
        yield number, Reading(names[number], celsius, FIRST_TIME_MS + index, index % 101)
