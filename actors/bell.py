"""Rings for what falls due in one partition: in time, and behind all that its sources had then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from headrace.actors.alarm import Alarm
from headrace.actors.shared import Shared
from headrace.actors.undertakings import Undertakings, until_available
from headrace.sources.reader import Reached
from headrace.workflows.partition import PartitionCore


class Bell:
    """Looks for what falls due, for a partition's driver. Used from the worker's loop only.

    A timer must not come before an older event that lies in a log: its time was up only because nobody had read on.
    So the sources are asked how far they go, at a time when it is due, and it comes once all of that has been offered.
    They are asked while what fell due before is still under way: else the next one would wait for one after the other.

    Args:
        number: Of the partition.
        shared: What all partitions of the worker have in common.
        under_way: Where it asks, to be given up with the partition.
        wake: Has the driver look again.
    """

    def __init__(self, number: int, shared: Shared, under_way: Undertakings, wake: Callable[[], None]) -> None:
        self._number = number
        self._shared = shared
        self._under_way = under_way
        self._wake = wake
        self._alarm = Alarm(wake)
        self._asked: int | None = None
        """When the sources were asked: milliseconds since 1970 UTC."""
        self._reached: Reached | None = None

    def look(self, core: PartitionCore, *, held: bool) -> None:
        """Let go on what is due, and look again when the next one is.

        Args:
            core: The partition's.
            held: Something that was pulled has not been offered yet, or nothing more may leave now.
        """
        now = self._shared.clock.now_ms()
        again, timer = core.wakes_at, core.timers_ahead
        for due in (again, timer):
            if due is not None and due > now:
                self._alarm.set(due, now)
        if again is not None and again <= now:
            core.advance(now)
        if timer is None or timer > now:
            return
        if self._asked is None:
            self._asked = now
            self._under_way.spawn(self._ask(now))
        elif (
            not held
            and core.timers_at is not None
            and self._reached is not None
            and (core.parking_full or self._reached())
        ):
            core.ring(self._asked)
            self._asked = self._reached = None

    async def _ask(self, asked: int) -> None:
        ask = partial(self._shared.feed.horizon, self._number)
        reached = await until_available(ask, self._shared.on_problem)
        if self._asked == asked:
            self._reached = reached
            self._wake()

    def stop(self) -> None:
        """The partition is let go."""
        self._alarm.stop()
        self._asked = self._reached = None
