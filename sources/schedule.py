"""A clock as a source: what users write."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from datetime import datetime, time, timedelta
from typing import ClassVar, Final, Literal, Self, TypeAlias, TypedDict, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from typing_extensions import Unpack

from headrace.sources.schedule_rules import CatchUp, Cron, Every, Once, Rule, WallClock
from headrace.workflows.ports import Source
from headrace.workflows.returns import Fault

Weekday: TypeAlias = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Missed: TypeAlias = Literal["all", "latest", "skip"]
_WEEKDAYS: Final[tuple[str, ...]] = get_args(Weekday)
_MISSED: Final = get_args(Missed)


class ScheduleKeywords(TypedDict, total=False):
    """Keywords of all schedules."""

    timezone: str
    """Name in the IANA database: `Europe/Berlin`. Default: `UTC`."""
    run: str
    """Key of the run that gets the events; needed in a keyed workflow, and only there."""
    name: str
    """Unique within the workflow. Default: `schedule`."""
    catch_up: Missed
    """What becomes of times at which nothing ran: `latest` (the default) makes up for the last of them, `all` for each,
    `skip` for none."""
    catch_up_limit: int
    """Of `all`: the newest so many. Default: 1,000."""
    grace: timedelta
    """An event that is not later than this is only late, and comes in any case. Default: a minute."""


class ScheduleSource(Source[datetime]):
    """An event at each time of a schedule; its data is the time it was due, with the zone's offset of that moment.

    Each time gives one event, exactly once, whatever dies: the last one is committed with the states. The first start
    begins then, not in the past. Times are compared with the store's clock, so that of a host does not matter.

    By the wall clock (`cron`, `daily`, `weekly`, `monthly`): what falls into the hour that is left out when clocks are
    put forward is due right after it; what comes twice when they are put back is due the first time only. A `cron`
    whose hours or minutes begin with `*` goes by elapsed time instead, as Debian's cron does.

    Args:
        cron: Five fields: minute, hour, day of month, month, day of week.
        every: Instead: equal distances, whatever clocks show.
        start: Of `every`: the first time (aware). Default: since 1970, so that `every=timedelta(minutes=5)` is at
            minutes 0, 5, 10 ...
        keywords: See `ScheduleKeywords`.

    Examples:
        >>> from datetime import UTC
        >>> morning = ScheduleSource.daily(time(6, 30), timezone="Europe/Berlin")
        >>> morning.next(datetime(2026, 3, 28, 12, tzinfo=UTC)).isoformat()
        '2026-03-29T06:30:00+02:00'
        >>> ScheduleSource("*/15 * * * MON-FRI").next(datetime(2026, 3, 27, 23, 50, tzinfo=UTC)).isoformat()
        '2026-03-30T00:00:00+00:00'
    """

    kind: ClassVar[str] = "schedule"
    feeder: ClassVar[str] = "headrace.sources.schedule_reader:make_readers"
    urgent: ClassVar[bool] = True
    key_cure: ClassVar[str] = "Add run= with the key of the run that gets its events"

    def __init__(
        self,
        cron: str | None = None,
        *,
        every: timedelta | None = None,
        start: datetime | None = None,
        **keywords: Unpack[ScheduleKeywords],
    ) -> None:
        self.type: builtins.type[datetime] = datetime
        self.name = keywords.get("name", "schedule")
        self.timezone = keywords.get("timezone", "UTC")
        self.run = run = keywords.get("run")
        self.key = None if run is None else (lambda due: run)
        self.policy = CatchUp(
            keywords.get("catch_up", "latest"),
            keywords.get("catch_up_limit", 1000),
            keywords.get("grace", timedelta(minutes=1)),
        )
        self._faults: list[Fault] = []
        self.zone = self._find_zone()
        self._rule: Rule | None = None
        if (cron is None) == (every is None):
            self._faults.append(
                Fault("schedule", "has either no time or two", "Write a cron expression, or every=timedelta(...)")
            )
        elif cron is not None:
            self._rule = Cron(cron, self.zone)
        elif every is not None:
            self._rule = Every(every, start)

    @classmethod
    def once(cls, at: datetime, **keywords: Unpack[ScheduleKeywords]) -> Self:
        """At one time; then the source is closed.

        Args:
            at: When (aware, or a wall-clock time of `timezone`). A time that is past is an error where the workflow
                is built; a workflow that runs already is started again all the same.
            keywords: See `ScheduleKeywords`.
        """
        made = cls._empty(keywords)
        made._rule = Once(at, made.zone)
        return made

    @classmethod
    def daily(cls, at: time | Sequence[time], **keywords: Unpack[ScheduleKeywords]) -> Self:
        """Each day at these times.

        Args:
            at: Of the day, in `timezone`: `time(6, 30)`; one or several.
            keywords: See `ScheduleKeywords`.
        """
        made = cls._empty(keywords)
        made._rule = WallClock(_times(at), made.zone)
        return made

    @classmethod
    def weekly(
        cls, days: Weekday | Sequence[Weekday], at: time | Sequence[time], **keywords: Unpack[ScheduleKeywords]
    ) -> Self:
        """On some days of the week.

        Args:
            days: `"monday"`, or several: `["monday", "friday"]`.
            at: As for `daily`.
            keywords: See `ScheduleKeywords`.
        """
        made = cls._empty(keywords)
        names = [days] if isinstance(days, str) else list(days)
        strange = [day for day in names if day not in _WEEKDAYS]
        if strange:
            choice = ", ".join(map(repr, _WEEKDAYS))
            made._faults.append(Fault("number", f"{strange[0]!r} is no day of the week", f"Write one of {choice}"))
        numbers = frozenset(_WEEKDAYS.index(day) for day in names if day in _WEEKDAYS)
        made._rule = WallClock(_times(at), made.zone, weekdays=numbers)
        return made

    @classmethod
    def monthly(cls, day: int, at: time | Sequence[time], **keywords: Unpack[ScheduleKeywords]) -> Self:
        """On one day of each month.

        Args:
            day: 1 to 31; in a month that has no such day: on its last. -1: always the last.
            at: As for `daily`.
            keywords: See `ScheduleKeywords`.
        """
        made = cls._empty(keywords)
        made._rule = WallClock(_times(at), made.zone, day=day)
        return made

    @classmethod
    def _empty(cls, keywords: ScheduleKeywords) -> Self:
        made = cls("", **keywords)
        made._rule = None
        return made

    @property
    def rule(self) -> Rule:
        """What gives its times."""
        assert self._rule is not None, "a workflow with such a source does not compile"
        return self._rule

    def next(self, after: datetime) -> datetime | None:
        """The first time later than `after` (aware), with the zone's offset; None: there is none any more."""
        due = self.rule.after(after)
        return None if due is None else due.astimezone(self.zone)

    def check(self, now: datetime, *, keyed: bool) -> Iterable[Fault]:
        """See `Source.check`."""
        yield from self._faults
        if self.run is not None and not keyed:
            yield Fault("key", f"run={self.run!r} in an unkeyed workflow, which has a single run", "Leave run= out")
        if self.policy.missed not in _MISSED:
            choice = ", ".join(map(repr, _MISSED))
            yield Fault("catch-up", f"catch_up={self.policy.missed!r} means nothing", f"Write one of {choice}")
        if self.policy.limit < 1:
            yield Fault("number", f"catch_up_limit={self.policy.limit} is no number", "Write a whole number from 1")
        if self.policy.grace < timedelta(0):
            yield Fault("number", f"grace={self.policy.grace} is negative", "Write a timedelta from 0")
        if self._rule is not None:
            yield from self._rule.faults(now)

    def _find_zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            cure = "Write a name of the IANA database: 'Europe/Berlin'"
            self._faults.append(Fault("timezone", f"there is no time zone {self.timezone!r}", cure))
            return ZoneInfo("UTC")


def _times(at: time | Sequence[time]) -> tuple[time, ...]:
    return (at,) if isinstance(at, time) else tuple(at)
