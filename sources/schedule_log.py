"""A schedule as a log: its occurrences are the records, the last one that happened is the position."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from headrace.sources.schedule import ScheduleSource
from headrace.sources.schedule_rules import due
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def moment_of(milliseconds: int) -> datetime:
    """A time in UTC from milliseconds since 1970."""
    return _EPOCH + milliseconds * _MILLISECOND


def milliseconds_of(moment: datetime) -> int:
    """The other way round."""
    return (moment - _EPOCH) // _MILLISECOND


class ScheduleLog:
    """One schedule, from a position on.

    Args:
        plan: The source.
        position: Milliseconds since 1970 UTC of the last occurrence that happened, or of the first start.
    """

    def __init__(self, plan: SourcePlan, position: int) -> None:
        self._plan = plan
        self._source: ScheduleSource = plan.source
        self.origin = origin_of(plan)
        self.position = position

    def next(self) -> int | None:
        """When the next occurrence is due; None: there is none any more."""
        found = self._source.rule.after(moment_of(self.position))
        return None if found is None else milliseconds_of(found)

    def read(self, now: int) -> tuple[Records, datetime | None]:
        """What is to happen at `now`, by the source's policy for what was missed; the position moves on.

        Returns:
            The records, and the last occurrence that is left out for good (None: none is).
        """
        found, left_out = due(self._source.rule, moment_of(self.position), moment_of(now), self._source.policy)
        if left_out is not None:
            self.position = milliseconds_of(left_out)
        return self._records(found), left_out

    def began(self) -> Records:
        """No records: only tells the position, so that the next owner begins there too."""
        return Records(self._plan.index, self.origin, [], [], [], [], str(self.position))

    def _records(self, found: list[datetime]) -> Records:
        records = Records(self._plan.index, self.origin, [], [], [], [], str(self.position), ids=[], positions=[])
        offsets: list[Any] = records.offsets
        for moment in found:
            self.position = milliseconds_of(moment)
            local = moment.astimezone(self._source.zone)
            offsets.append(str(self.position))
            records.times.append(self.position)
            records.keys.append(None)
            records.values.append(msgspec.json.encode(local))
            if records.ids is not None and records.positions is not None:
                records.ids.append(f"{self._plan.name}/{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z")
                records.positions.append(str(self.position))
        records.after = str(self.position)
        return records


def origin_of(plan: SourcePlan) -> str:
    """Name of a schedule's log in positions."""
    return f"schedule:{plan.name}"
