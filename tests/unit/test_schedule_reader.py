"""The reader of schedules: by the store's clock, from the committed position, owned by one partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from headrace import ScheduleSource
from headrace.sources.schedule_reader import ScheduleReader
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records
from headrace.workflows.store import StoreUnavailable
from lines import Told
from waiting import until_async

Begin = Callable[..., Awaitable[ScheduleReader]]
HOUR = 3_600_000
ORIGIN = "schedule:schedule"


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def reading(told: Told) -> AsyncIterator[Begin]:
    readers: list[ScheduleReader] = []

    async def begin(source: ScheduleSource, position: int | None = None, **options: bool | int) -> ScheduleReader:
        plan = SourcePlan(0, source.name, source, 0, source.key, ())
        reader = ScheduleReader([plan], told.surroundings(**options))  # type: ignore[arg-type]
        readers.append(reader)
        await reader.open()
        await reader.assign(0, {} if position is None else {ORIGIN: str(position)})
        return reader

    yield begin
    for reader in readers:
        await reader.close()


def hourly(**keywords: object) -> ScheduleSource:
    return ScheduleSource(every=timedelta(hours=1), **keywords)  # type: ignore[arg-type]


async def pulled(reader: ScheduleReader) -> Records:
    found: list[Records] = await until_async(lambda: reader.pull(0, 100), "something is due")
    [records] = found
    return records


async def test_the_first_start_begins_now_and_says_so_before_anything_is_due(told: Told, reading: Begin) -> None:
    reader = await reading(hourly())

    records = await pulled(reader)

    assert (len(records), records.origin, records.after) == (0, ORIGIN, str(told.now))


async def test_what_is_due_comes_with_its_time_id_and_position(told: Told, reading: Begin) -> None:
    due = told.now
    reader = await reading(hourly(timezone="Europe/Berlin"), due - HOUR)

    records = await pulled(reader)

    assert [msgspec.json.decode(value or b"", type=datetime) for value in records.values] == [
        datetime(2026, 1, 1, tzinfo=UTC)
    ]
    assert records.values[0] == b'"2026-01-01T01:00:00+01:00"'
    assert (records.times, records.ids, records.after) == ([due], ["schedule/2026-01-01T00:00:00.000Z"], str(due))


async def test_nothing_happens_before_the_store_says_that_it_is_time(told: Told, reading: Begin) -> None:
    told.now -= 30  # this host is ahead of the store
    due = told.now + 30
    asked: list[int] = []
    clock = told.clock

    async def slow() -> int:
        asked.append(told.now)
        told.now += 10
        return await clock()

    told.clock = slow  # type: ignore[method-assign]
    reader = await reading(hourly(), due - HOUR)

    records = await pulled(reader)

    assert records.times == [due]
    assert len(asked) == 3


async def test_it_asks_again_while_the_store_is_away(told: Told, reading: Begin) -> None:
    answers = ["away"]
    clock = told.clock

    async def away() -> int:
        if answers:
            raise StoreUnavailable("here", answers.pop())
        return await clock()

    told.clock = away  # type: ignore[method-assign]
    reader = await reading(hourly(), told.now - HOUR)

    assert len(await pulled(reader)) == 1


@pytest.mark.parametrize(("missed", "count"), [("all", 3), ("latest", 1), ("skip", 0)])
async def test_what_was_missed_is_treated_as_the_schedule_says(
    missed: str, count: int, told: Told, reading: Begin
) -> None:
    half_past = told.now + HOUR // 2
    told.now = half_past
    reader = await reading(hourly(catch_up=missed), half_past - 3 * HOUR)

    if count:
        assert len(await pulled(reader)) == count
    told.now = half_past + HOUR // 2  # whatever was missed, the next one is on time
    await reader.assign(0, {ORIGIN: str(half_past)})
    records = await pulled(reader)
    assert records.times == [told.now]


async def test_a_schedule_is_read_by_the_partition_of_its_run_only(told: Told, reading: Begin) -> None:
    home = partition_of("plant", 4)
    reader = await reading(hourly(run="plant"), told.now - HOUR, partitions=4, keyed=True)
    for partition in range(4):
        await reader.assign(partition, {ORIGIN: str(told.now - HOUR)})

    await until_async(lambda: told.ready, "somebody has something to pull")

    assert set(told.ready) == {home}
    assert [partition for partition in range(4) if reader.pull(partition, 10)] == [home]


async def test_a_schedule_that_has_no_more_times_is_closed_once_they_are_pulled(told: Told, reading: Begin) -> None:
    reader = await reading(ScheduleSource.once(datetime(2026, 1, 1, tzinfo=UTC)), told.now - HOUR)
    await until_async(lambda: told.ready, "it is due")
    assert told.closed == []

    assert len(await pulled(reader)) == 1

    await until_async(lambda: told.closed == [(0, 0)], "it is closed")


async def test_a_revoked_schedule_rings_no_more(told: Told, reading: Begin) -> None:
    reader = await reading(hourly(), told.now - HOUR)
    await until_async(lambda: told.ready, "it is due")

    await reader.revoke(0)
    await asyncio.sleep(0)

    assert reader.pull(0, 10) == []
