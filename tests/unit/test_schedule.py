"""Schedules: when they are due in three time zones, what becomes of missed times, and what is refused at build."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Context, Event, ScheduleSource, Workflow
from headrace.sources.schedule_rules import CatchUp, Every, due, newest, occurrences
from headrace.testing import Harness

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def times(source: ScheduleSource, after: datetime, count: int) -> list[str]:
    """The next times, as clocks of the zone show them."""

    def all_times() -> Iterator[str]:
        moment: datetime | None = after
        while moment is not None and (moment := source.next(moment)) is not None:
            yield moment.isoformat(" ", "minutes")

    return list(islice(all_times(), count))


def test_schedule_once() -> None:
    source = ScheduleSource.once(datetime.fromisoformat("2026-06-01T12:00"), timezone=BERLIN)

    assert times(source, NEW_YEAR, 5) == ["2026-06-01 12:00+02:00"]


def test_schedule_interval_is_that_of_the_clock_or_begins_where_it_is_told() -> None:
    clock = ScheduleSource(every=timedelta(minutes=5))
    told = ScheduleSource(every=timedelta(hours=36), start=datetime(2026, 1, 2, 3, tzinfo=UTC))

    assert times(clock, NEW_YEAR + timedelta(seconds=1), 2) == ["2026-01-01 00:05+00:00", "2026-01-01 00:10+00:00"]
    assert times(told, NEW_YEAR, 2) == ["2026-01-02 03:00+00:00", "2026-01-03 15:00+00:00"]


def test_schedule_daily_at_several_times() -> None:
    source = ScheduleSource.daily([time(18), time(6, 30)], timezone=NEW_YORK)

    shown = times(source, NEW_YEAR, 3)

    assert shown == ["2026-01-01 06:30-05:00", "2026-01-01 18:00-05:00", "2026-01-02 06:30-05:00"]


def test_schedule_weekly() -> None:
    source = ScheduleSource.weekly(["monday", "friday"], time(9), timezone=BERLIN)

    assert times(source, NEW_YEAR, 3) == ["2026-01-02 09:00+01:00", "2026-01-05 09:00+01:00", "2026-01-09 09:00+01:00"]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (15, ["01-15", "02-15", "03-15", "04-15"]),
        (31, ["01-31", "02-28", "03-31", "04-30"]),
        (-1, ["01-31", "02-28", "03-31", "04-30"]),
    ],
)
def test_schedule_monthly_is_on_the_last_day_where_a_month_has_no_such_day(day: int, expected: list[str]) -> None:
    source = ScheduleSource.monthly(day, time(0, 30), timezone=BERLIN)

    assert [shown[5:10] for shown in times(source, NEW_YEAR, 4)] == expected


def test_schedule_cron() -> None:
    source = ScheduleSource("30 6 * * MON-FRI", timezone=BERLIN)

    assert times(source, NEW_YEAR, 3) == ["2026-01-01 06:30+01:00", "2026-01-02 06:30+01:00", "2026-01-05 06:30+01:00"]


def first_two(kind: str, day: date, at: time, zone: str) -> list[str]:
    """When a schedule of a kind, for this time of a Sunday, is due from the beginning of that day on."""
    source = {
        "daily": ScheduleSource.daily(at, timezone=zone),
        "weekly": ScheduleSource.weekly("sunday", at, timezone=zone),
        "monthly": ScheduleSource.monthly(day.day, at, timezone=zone),
        "cron": ScheduleSource(f"{at.minute} {at.hour} * * *", timezone=zone),
        "once": ScheduleSource.once(datetime.combine(day, at), timezone=zone),
    }[kind]
    return times(source, datetime.combine(day, time(0), tzinfo=ZoneInfo(zone)).astimezone(UTC), 2)


FORWARD = {
    BERLIN: (date(2026, 3, 29), time(2, 30), "2026-03-29 03:00+02:00"),
    NEW_YORK: (date(2026, 3, 8), time(2, 30), "2026-03-08 03:00-04:00"),
    LORD_HOWE: (date(2026, 10, 4), time(2, 10), "2026-10-04 02:30+11:00"),
}
"""Zone -> the day on which clocks are put forward, a time that they pass over, and the first moment after it."""


@pytest.mark.parametrize("zone", FORWARD)
@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly", "cron", "once"])
def test_schedule_of_a_time_that_does_not_exist_is_due_right_after_the_gap(zone: str, kind: str) -> None:
    day, at, expected = FORWARD[zone]

    first, *others = first_two(kind, day, at, zone)

    assert first == expected
    assert not others or others[0][11:16] == at.isoformat("minutes")


BACK = {
    BERLIN: (date(2026, 10, 25), time(2, 30), "2026-10-25 02:30+02:00"),
    NEW_YORK: (date(2026, 11, 1), time(1, 30), "2026-11-01 01:30-04:00"),
    LORD_HOWE: (date(2026, 4, 5), time(1, 45), "2026-04-05 01:45+11:00"),
}
"""Zone -> the day on which clocks are put back, a time that they show twice, and the first of the two."""


@pytest.mark.parametrize("zone", BACK)
@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly", "cron", "once"])
def test_schedule_of_a_time_that_exists_twice_is_due_the_first_time_only(zone: str, kind: str) -> None:
    day, at, expected = BACK[zone]

    first, *others = first_two(kind, day, at, zone)

    assert first == expected
    assert all(shown[:10] != first[:10] for shown in others)


@pytest.mark.parametrize("zone", BACK)
def test_schedule_that_is_looked_at_in_the_second_of_two_hours_does_not_come_again(zone: str) -> None:
    day, at, expected = BACK[zone]
    first = datetime.fromisoformat(expected)
    between = first + (timedelta(minutes=45) if zone != LORD_HOWE else timedelta(minutes=20))

    for source in (
        ScheduleSource.daily(at, timezone=zone),
        ScheduleSource(f"{at.minute} {at.hour} * * *", timezone=zone),
    ):
        assert times(source, between, 1)[0][:10] == str(day + timedelta(days=1))


def test_schedule_every_hour_goes_by_elapsed_time_through_both_changes() -> None:
    cron = ScheduleSource("0 * * * *", timezone=BERLIN)
    every = ScheduleSource(every=timedelta(hours=1), timezone=BERLIN)

    for around in (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)):
        shown = times(every, around, 4)
        assert times(cron, around, 4) == shown
        moments = [datetime.fromisoformat(text) for text in shown]
        assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(hours=1)}


@settings(deadline=None, max_examples=150)
@given(
    zone=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE]),
    at=st.times(timezones=st.none()).map(lambda at: at.replace(second=0, microsecond=0)),
    after=st.integers(0, 364 * 24 * 60).map(lambda minutes: NEW_YEAR + timedelta(minutes=minutes)),
    days=st.sets(st.sampled_from(["monday", "wednesday", "sunday"]), min_size=1),
)
def test_schedule_of_any_day_and_time_agrees_with_cron(zone: str, at: time, after: datetime, days: set[Any]) -> None:
    weekly = ScheduleSource.weekly(sorted(days), at, timezone=zone)
    # Names of days, as hours and minutes with stars would go by elapsed time
    cron = ScheduleSource(f"{at.minute} {at.hour} * * {','.join(day[:3] for day in days)}", timezone=zone)

    shown = times(weekly, after, 6)

    assert shown == times(cron, after, 6)
    assert sorted(set(shown), key=datetime.fromisoformat) == shown


@settings(deadline=None)
@given(
    after=st.integers(0, 500_000),
    span=st.integers(0, 500_000),
    interval=st.integers(1, 5_000),
    count=st.integers(0, 50),
)
def test_schedule_newest_times_are_the_last_of_all(after: int, span: int, interval: int, count: int) -> None:
    rule = Every(timedelta(seconds=interval), None)
    begin = NEW_YEAR + timedelta(seconds=after)
    end = begin + timedelta(seconds=span)

    everything = list(occurrences(rule, begin, end))

    assert newest(rule, begin, end, count) == everything[len(everything) - min(count, len(everything)) :]


def minutes_of(found: list[datetime]) -> list[int]:
    return [(moment - NEW_YEAR) // timedelta(minutes=1) for moment in found]


@pytest.mark.parametrize(
    ("missed", "limit", "expected", "left_out"),
    [
        ("all", 100, [10, 20, 30, 40, 50, 60], None),
        ("all", 2, [40, 50, 60], 30),
        ("latest", 100, [60], 50),
        ("skip", 100, [60], 50),
    ],
)
def test_schedule_catch_up_leaves_alone_what_is_only_late(
    missed: str, limit: int, expected: list[int], left_out: int | None
) -> None:
    rule = Every(timedelta(minutes=10), None)
    policy = CatchUp(missed, limit, timedelta(minutes=1))

    found, skipped = due(rule, NEW_YEAR, NEW_YEAR + timedelta(minutes=60, seconds=30), policy)

    assert minutes_of(found) == expected
    assert (None if skipped is None else minutes_of([skipped])[0]) == left_out


@pytest.mark.parametrize(("missed", "expected"), [("all", [10, 20]), ("latest", [20]), ("skip", [])])
def test_schedule_catch_up_of_what_is_more_than_late(missed: str, expected: list[int]) -> None:
    policy = CatchUp(missed, 100, timedelta(minutes=1))

    found, _ = due(Every(timedelta(minutes=10), None), NEW_YEAR, NEW_YEAR + timedelta(minutes=25), policy)

    assert minutes_of(found) == expected


# In the test kit.


def note(event: Event[datetime], ctx: Context[list[str]]) -> None:
    ctx.state.append(f"{event.data.isoformat(' ', 'minutes')} at {ctx.now:%H:%M}")


def test_schedule_in_virtual_time_each_event_comes_in_its_own_moment() -> None:
    workflow = Workflow("clock", keyed=False)
    noting = workflow.node(note)
    workflow.source(ScheduleSource("0 */6 * * *", timezone=BERLIN)).to(noting)

    with Harness(workflow) as harness:
        harness.advance(timedelta(hours=4))
        assert "" not in harness.runs
        harness.advance(timedelta(hours=8))

        assert harness.run.state(noting) == ["2026-01-01 06:00+01:00 at 05:00", "2026-01-01 12:00+01:00 at 11:00"]
        assert harness.now == datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("point", ["after:pull", "before:commit", "after:commit"])
def test_schedule_each_time_counts_once_over_a_crash(point: str) -> None:
    workflow = Workflow("clock", keyed=False)
    noting = workflow.node(note)
    workflow.source(ScheduleSource(every=timedelta(hours=1))).to(noting)

    with Harness(workflow) as harness:
        harness.crash_at(f"{point}:2")
        harness.advance(timedelta(hours=3))

        assert harness.crashes == 1
        assert [line[11:16] for line in harness.run.state(noting)] == ["01:00", "02:00", "03:00"]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("all", ["01:00", "02:00", "03:00", "04:00"]),
        ("latest", ["01:00", "03:00", "04:00"]),
        ("skip", ["01:00", "04:00"]),
    ],
)
def test_schedule_catch_up_after_an_outage(missed: Any, expected: list[str]) -> None:
    workflow = Workflow("clock", keyed=False)
    noting = workflow.node(note)
    workflow.source(ScheduleSource(every=timedelta(hours=1), catch_up=missed)).to(noting)

    with Harness(workflow) as harness:
        harness.advance(timedelta(hours=1, minutes=30))
        harness.outage(timedelta(hours=2))
        harness.advance(timedelta(minutes=30))

        assert [line[11:16] for line in harness.run.state(noting)] == expected


def test_schedule_once_in_an_unkeyed_workflow_is_closed_afterwards() -> None:
    workflow = Workflow("clock", keyed=False)
    noting = workflow.node(note)
    workflow.source(ScheduleSource.once(datetime(2026, 1, 1, 5, tzinfo=UTC))).to(noting)

    with Harness(workflow) as harness:
        harness.advance(timedelta(days=1))

        assert harness.outcome == "source closed"
        assert len(harness.run.state(noting)) == 1


def test_schedule_in_a_keyed_workflow_belongs_to_the_run_it_names() -> None:
    workflow = Workflow("clock")
    noting = workflow.node(note)
    workflow.source(ScheduleSource(every=timedelta(hours=1), run="plant")).to(noting)

    with Harness(workflow) as harness:
        harness.advance(timedelta(hours=2))

        assert len(harness.runs["plant"].state(noting)) == 2


# At build.


def problems_of(source: ScheduleSource, **options: Any) -> list[str]:
    workflow = Workflow("clock", **{"keyed": False, **options})
    workflow.source(source).to(workflow.node(note))
    return [str(problem) for problem in workflow.check(now=NEW_YEAR)]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (ScheduleSource.once(datetime(2025, 12, 31, tzinfo=UTC)), "which is past (it is 2026-01-01 00:00 UTC)"),
        (ScheduleSource.once(datetime.fromisoformat("2026-01-01T00:59"), timezone=BERLIN), "which is past"),
        (ScheduleSource("30 6 * *"), "has not five fields"),
        (ScheduleSource("61 6 * * *"), "can't be read: Bad minute"),
        (ScheduleSource("0 0 30 2 *"), "can't be read: Bad day-of-month"),
        (ScheduleSource(), "has either no time or two"),
        (ScheduleSource("* * * * *", every=timedelta(minutes=1)), "has either no time or two"),
        (ScheduleSource(every=timedelta(0)), "every=0:00:00 is no interval"),
        (ScheduleSource(every=timedelta(hours=1), start=datetime.fromisoformat("2026-01-01")), "has no time zone"),
        (ScheduleSource.daily(time(6), timezone="Europe/Bärlin"), "there is no time zone 'Europe/Bärlin'"),
        (ScheduleSource.daily([]), "no time is no time of day"),
        (ScheduleSource.weekly("someday", time(6)), "'someday' is no day of the week"),  # type: ignore[arg-type]
        (ScheduleSource.monthly(32, time(6)), "day=32 is no day of a month"),
        (ScheduleSource("0 6 * * *", catch_up="maybe"), "catch_up='maybe' means nothing"),  # type: ignore[arg-type]
        (ScheduleSource("0 6 * * *", run="plant"), "Leave run= out"),
    ],
)
def test_schedule_that_can_not_be_is_refused_at_build(source: ScheduleSource, sentence: str) -> None:
    found = problems_of(source)

    assert len([problem for problem in found if sentence in problem]) == 1, found


def test_schedule_without_a_run_is_refused_in_a_keyed_workflow() -> None:
    found = problems_of(ScheduleSource("0 6 * * *"), keyed=True)

    assert ["Add run= with the key of the run" in problem for problem in found] == [True]


def test_schedule_once_is_no_mistake_in_a_process_of_a_workflow_that_was_built_before() -> None:
    source = ScheduleSource.once(NEW_YEAR)
    workflow = Workflow("clock", keyed=False)
    workflow.source(source).to(workflow.node(note))

    assert workflow.compile(now=datetime.min.replace(tzinfo=UTC)).sources[0].source is source
