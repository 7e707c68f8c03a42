"""When a schedule is due: rules that give the next time after a moment, in a time zone with all its changes.

A wall-clock time that does not exist (clocks are put forward over it) is due at the first moment after the gap; one
that exists twice (clocks are put back) is due the first time only. So does Debian's cron, and cronsim with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from headrace.workflows.returns import Fault

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_FIELDS: Final = 5
_SEARCHED: Final = 64
"""Days without an occurrence after which a rule has none: a month is at most 31 days long, a week 7."""


class Rule(Protocol):
    """Gives times; all of them aware, in UTC."""

    def after(self, moment: datetime) -> datetime | None:
        """The first occurrence later than `moment`; None: there is none."""
        ...

    def faults(self, now: datetime) -> Iterator[Fault]:
        """What is wrong with it."""
        ...


def wall_time(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The moment (UTC) at which clocks of a zone first show `at` on that day, or pass over it."""
    naive = datetime.combine(day, at)
    early = naive.replace(tzinfo=zone, fold=0)
    moment = early.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == naive:
        return moment
    before, gone = early.utcoffset(), moment - _DAY
    while moment - gone > _SECOND:  # the gap begins between them: where the offset changes
        middle = gone + (moment - gone) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            gone = middle
        else:
            moment = middle
    return moment


@dataclass(frozen=True, slots=True)
class Once:
    """One time."""

    at: datetime
    """Aware, or a wall-clock time of the zone."""
    zone: ZoneInfo

    @property
    def moment(self) -> datetime:
        """In UTC."""
        return self.at.astimezone(UTC) if self.at.tzinfo else wall_time(self.at.date(), self.at.time(), self.zone)

    def after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        return self.moment if self.moment > moment else None

    def faults(self, now: datetime) -> Iterator[Fault]:
        """See `Rule`."""
        if self.moment <= now:
            message = f"is due at {self.at}, which is past (it is {now:%Y-%m-%d %H:%M} UTC)"
            yield Fault("past", message, "Give a later time, or take it out")


@dataclass(frozen=True, slots=True)
class Every:
    """Equal distances, whatever clocks show."""

    interval: timedelta
    start: datetime | None
    """The first time (aware); None: since 1970, so that five minutes are those of the clock."""

    def after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        start = self.start or _EPOCH
        return start if moment < start else start + ((moment - start) // self.interval + 1) * self.interval

    def faults(self, now: datetime) -> Iterator[Fault]:
        """See `Rule`."""
        del now
        if self.interval < _MILLISECOND or self.interval % _MILLISECOND:
            yield Fault("number", f"every={self.interval} is no interval", "Write a timedelta of whole milliseconds")
        if self.start is not None and self.start.tzinfo is None:
            yield Fault("timezone", f"start={self.start} has no time zone", "Write datetime(..., tzinfo=UTC)")


@dataclass(frozen=True, slots=True)
class WallClock:
    """Times of day on all days, some days of the week, or one day of the month."""

    at: tuple[time, ...]
    zone: ZoneInfo
    weekdays: frozenset[int] | None = None
    """0: Monday."""
    day: int | None = None
    """Of the month; in shorter ones their last. -1: the last."""

    def after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        day = moment.astimezone(self.zone).date() - _DAY
        for number in range(_SEARCHED):
            due = [wall_time(day + number * _DAY, at, self.zone) for at in self.at if self._is_on(day + number * _DAY)]
            later = [candidate for candidate in due if candidate > moment]
            if later:
                return min(later)
        return None

    def _is_on(self, day: date) -> bool:
        if self.weekdays is not None:
            return day.weekday() in self.weekdays
        if self.day is None:
            return True
        last = (day + _DAY).month != day.month
        return day.day == self.day or (last and (self.day < 0 or self.day > day.day))

    def faults(self, now: datetime) -> Iterator[Fault]:
        """See `Rule`."""
        del now
        if not self.at or any(at.tzinfo is not None or at.microsecond % 1000 for at in self.at):
            text = ", ".join(map(str, self.at)) or "no time"
            yield Fault("number", f"{text} is no time of day", "Write time(6, 30); its zone is said by timezone=")
        if self.day is not None and self.day not in (-1, *range(1, 32)):
            cure = "Write a number from 1 to 31, or -1: the last"
            yield Fault("number", f"day={self.day} is no day of a month", cure)
        if self.weekdays is not None and not self.weekdays:
            yield Fault("number", "has no day of the week", 'Write "monday", or several: ["monday", "friday"]')


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        from cronsim import CronSim  # noqa: PLC0415  only who has such a schedule needs it

        for due in CronSim(self.expression, moment.astimezone(self.zone)):
            found = due.astimezone(UTC)
            if found > moment:  # in the hour that comes twice it begins with the first one's times
                return found
        return None

    def faults(self, now: datetime) -> Iterator[Fault]:
        """See `Rule`."""
        from cronsim import CronSimError  # noqa: PLC0415  as above

        cure = "Write five fields: minute, hour, day of month, month, day of week: '30 6 * * MON-FRI'"
        if len(self.expression.split()) != _FIELDS:
            yield Fault("cron", f"{self.expression!r} has not five fields", cure)
            return
        try:
            found = self.after(max(now, _EPOCH))
        except CronSimError as error:
            yield Fault("cron", f"{self.expression!r} can't be read: {error}", cure)
        else:
            if found is None:
                yield Fault("cron", f"{self.expression!r} is never due", cure)


def occurrences(rule: Rule, after: datetime, until: datetime) -> Iterator[datetime]:
    """All times of a rule later than `after`, up to and including `until`."""
    moment = rule.after(after)
    while moment is not None and moment <= until:
        yield moment
        moment = rule.after(moment)


def newest(rule: Rule, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` of `occurrences`, without going through all of them."""
    back = timedelta(minutes=1)
    while count > 0:
        begin = max(after, until - back)
        found = list(occurrences(rule, begin, until))
        if begin == after or len(found) >= count:
            return found[-count:]
        back *= 2
    return []


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What becomes of occurrences for which nobody was there."""

    missed: str
    """`all`, `latest` or `skip`."""
    limit: int
    """Of `all`: the newest so many."""
    grace: timedelta
    """So late an occurrence is only late, not missed."""


def due(rule: Rule, position: datetime, now: datetime, policy: CatchUp) -> tuple[list[datetime], datetime | None]:
    """What is to happen at `now`.

    Args:
        rule: The schedule.
        position: The last occurrence that happened, or when it began.
        now: The store's time.
        policy: What becomes of those that were missed.

    Returns:
        The occurrences, in order; and the last one that is left out for good (None: none is).
    """
    late = max(position, now - policy.grace)
    wanted = {"all": policy.limit, "latest": 1, "skip": 0}[policy.missed]
    on_time = list(occurrences(rule, late, now))
    if wanted == 1 and on_time:
        wanted = 0  # what is on time is the latest
    missed = newest(rule, position, late, wanted + 1)
    kept = missed[len(missed) - min(wanted, len(missed)) :]
    left_out = missed[-len(kept) - 1] if len(missed) > len(kept) else None
    return [*kept, *on_time], left_out
