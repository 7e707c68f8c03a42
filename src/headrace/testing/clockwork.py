"""The schedules of a workflow in the test kit: occurrences come into their logs as virtual time passes."""

from __future__ import annotations

from headrace.sources.schedule_log import ScheduleLog
from headrace.testing.inputs import Inputs, LogEntry
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import Plan, SourcePlan


class Clockwork:
    """All schedules of one workflow.

    Args:
        plan: The workflow.
        partitions: Shares of its key space.
        inputs: Where occurrences go.
        now: When it begins, in milliseconds since 1970 UTC.
    """

    def __init__(self, plan: Plan, partitions: int, inputs: Inputs, now: int) -> None:
        self._inputs = inputs
        sources = [source for source in plan.sources if source.source.kind == "schedule"]
        self._logs = [(source, _home(source, plan.keyed, partitions), ScheduleLog(source, now)) for source in sources]

    def next(self) -> int | None:
        """When the next occurrence of any of them is due; None: there is none any more."""
        return min((due for _, _, log in self._logs if (due := log.next()) is not None), default=None)

    def strike(self, now: int) -> set[int]:
        """Let happen what is due. Returns the indexes of schedules that have ended."""
        for source, home, log in self._logs:
            records, _ = log.read(now)
            for index, value in enumerate(records.values):
                id_ = records.ids[index] if records.ids else None
                self._inputs.append(source, home, LogEntry(None, value, records.times[index], (), id_))
        return {source.index for source, _, log in self._logs if log.next() is None}


def _home(source: SourcePlan, keyed: bool, partitions: int) -> int:
    return partition_of(source.source.run, partitions) if keyed else 0
