"""Feeds a worker with the schedules of its partitions, by the store's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from headrace.sources.feeding import Surroundings
from headrace.sources.reader import Reached
from headrace.sources.schedule_log import ScheduleLog, origin_of
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

_LONGEST_SLEEP: Final = 10.0
"""Seconds after which the store is asked again: clocks are put right, and hosts are suspended."""
_STORE_AWAY: Final = 0.5


def make_readers(sources: Sequence[SourcePlan], surroundings: Surroundings) -> list[ScheduleReader]:
    """One for all schedules; see `Feeder`."""
    return [ScheduleReader(sources, surroundings)]


@dataclass(slots=True, eq=False)
class _Alarm:
    """One schedule that one of our partitions owns."""

    plan: SourcePlan
    partition: int
    position: int | None
    """As committed; None at the first start, until the store has said what time it is."""
    log: ScheduleLog | None = None
    waiting: deque[Records] = field(default_factory=deque)
    """To be pulled; nothing is added while there is something."""
    closed: bool = False

    def wakes_at(self) -> int | None:
        """When it has something to do: milliseconds since 1970 UTC; 0: now; None: not by time."""
        if self.log is None:
            return 0
        if self.waiting or self.closed:
            return None
        return self.log.next() or 0  # without a next one it is to be closed


class ScheduleReader:
    """The `Reader` of all schedules of a workflow; see there for who calls what when.

    Each schedule is owned by one partition: that of its run, or the only one. An occurrence happens once the store's
    clock has reached it; in between this host's clock only says when to ask.
    """

    def __init__(self, sources: Sequence[SourcePlan], surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._homes = [(self._home(plan), plan) for plan in sources]
        self._alarms: dict[int, list[_Alarm]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.paused: frozenset[int] = frozenset()
        self._ahead = 0.0
        """The store's time less that of our loop, in seconds."""

    def _home(self, plan: SourcePlan) -> int:
        run = plan.source.run
        return partition_of(run, self._surroundings.partitions) if self._surroundings.keyed and run else 0

    async def open(self) -> None:
        """Begin to look at the clock."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="schedules")

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """Go on behind `positions`; what was waiting is dropped."""
        alarms = []
        for home, plan in self._homes:
            if home == partition:
                committed = positions.get(origin_of(plan))
                alarms.append(_Alarm(plan, partition, None if committed is None else int(committed)))
        self._alarms[partition] = alarms
        self._changed.set()

    async def revoke(self, partition: int) -> None:
        """They are another worker's now."""
        self._alarms.pop(partition, None)
        self._changed.set()

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What is due; never waits."""
        pulled: list[Records] = []
        for alarm in self._alarms.get(partition, []):
            if alarm.plan.index in self.paused:
                continue
            while alarm.waiting and limit > 0:
                records = alarm.waiting.popleft()
                limit -= len(records)
                pulled.append(records)
            if not alarm.waiting and pulled:
                self._changed.set()
        return pulled

    async def horizon(self, partition: int) -> Reached:
        """See `Reader`: all that was to happen by now."""
        alarms = self._alarms.get(partition, [])
        await self._ring(alarms)
        return lambda: all(not alarm.waiting or alarm.plan.index in self.paused for alarm in alarms)

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """See `Reader`: nobody else needs to know."""

    async def close(self) -> None:
        """Stop looking at the clock; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self._changed.clear()
            alarms = [alarm for owned in self._alarms.values() for alarm in owned]
            times = [wakes for alarm in alarms if (wakes := alarm.wakes_at()) is not None]
            if not times:
                await self._changed.wait()
            elif await self._slept(min(times)):
                await self._ring(alarms)

    async def _slept(self, due: int) -> bool:
        """Wait until our clock says that `due` has come. False if something changed meanwhile."""
        loop = asyncio.get_running_loop()
        seconds = min(due / 1000 - self._ahead - loop.time(), _LONGEST_SLEEP)
        if seconds <= 0:
            return True
        try:  # not by `wait_for`: until Python 3.12 it swallows a cancellation that comes with the change
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    async def _ring(self, alarms: Sequence[_Alarm]) -> None:
        try:
            now = await self._surroundings.clock()
        except StoreUnavailable as error:
            _log.warning("schedules_wait_for_the_store", reason=str(error))
            await asyncio.sleep(_STORE_AWAY)
            return
        self._ahead = now / 1000 - asyncio.get_running_loop().time()
        for alarm in alarms:
            if alarm in self._alarms.get(alarm.partition, []):
                self._look(alarm, now)

    def _look(self, alarm: _Alarm, now: int) -> None:
        if alarm.log is None:
            alarm.log = ScheduleLog(alarm.plan, now if alarm.position is None else alarm.position)
            if alarm.position is None:
                alarm.waiting.append(alarm.log.began())
        due = alarm.log.next()
        if due is not None and due <= now and not alarm.waiting:
            records, left_out = alarm.log.read(now)
            if left_out is not None:
                policy = alarm.plan.source.policy.missed
                _log.warning("schedule_skipped", source=alarm.plan.name, until=left_out.isoformat(), catch_up=policy)
            if records:
                alarm.waiting.append(records)
        if alarm.waiting:
            self._surroundings.on_ready(alarm.partition)
        elif due is None and not alarm.closed:
            alarm.closed = True
            self._surroundings.on_closed(alarm.partition, alarm.plan.index)
