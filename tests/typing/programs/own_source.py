"""Sources of a user's own: sync and async, by the base classes' signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, time, timedelta

import msgspec

from headrace import Context, CustomSource, Event, Raw, Record, ScheduleSource, Split, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Poll(CustomSource[Reading]):
    delivery = "exactly-once"

    def open(self, split: str, position: str | None) -> Split[Reading]:
        return Rows(int(position or 0))


class Rows(Split[Reading]):
    def __init__(self, row: int) -> None:
        self.row = row

    def read(self, limit: int) -> list[Record[Reading]] | None:
        self.row += 1
        return [Record(Reading("s1", 21.0), position=str(self.row)), Record(Raw(b"{}"), position=f"{self.row}b")]


class Wait(CustomSource[Reading]):
    delivery = "at-least-once"

    async def open(self, split: str, position: str | None) -> Split[Reading]:
        return Queue()


class Queue(Split[Reading]):
    async def read(self, limit: int) -> Sequence[Record[Reading]]:
        await asyncio.sleep(1)
        return []

    async def committed(self, position: str) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.sleep(0)


def show(event: Event[Reading], ctx: Context) -> None:
    print(event.data.celsius)


workflow = Workflow("own")
shown = workflow.node(show)
workflow.source(Poll(Reading, name="poll", key="sensor")).to(shown)
workflow.source(Wait(Reading, name="wait", key=lambda reading: reading.sensor)).to(shown)


def tick(event: Event[datetime], ctx: Context) -> None:
    print(event.data.isoformat())


ticking = workflow.node(tick)
workflow.source(ScheduleSource("0 6 * * *", run="plant", timezone="Europe/Berlin")).to(ticking)
workflow.source(ScheduleSource(every=timedelta(minutes=1), run="plant", name="minutes", catch_up="all")).to(ticking)
workflow.source(ScheduleSource.weekly(["monday", "friday"], time(9), run="plant", name="weekly")).to(ticking)
