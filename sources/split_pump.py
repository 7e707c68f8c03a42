"""Reads one split for one owner: ahead, up to a bound, and again after whatever the user's code raises."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from headrace.sources.own_thread import OwnThread
from headrace.sources.problems import Problems
from headrace.sources.split_session import SplitSession
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

_log = structlog.get_logger(__name__)

FAILED: Final = "source_failed"
BUFFER: Final = 4096
"""Records of a split that wait to be pulled: at that many it is not read."""
BUFFER_BYTES: Final = 16 << 20
"""The same, by the size of their data."""
BATCH: Final = 1024
"""Records asked for at a time."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 15.0
_CLOSE_WITHIN: Final = 2.0


class SplitPump:
    """One split from its assignment to its revocation. Used from the worker's loop.

    Args:
        plan: The source.
        split: Name of the split.
        position: As committed; None if nothing is.
        problems: Told what the user's code raises.
        on_change: Called when there is something to pull, or the end.
    """

    def __init__(
        self, plan: SourcePlan, split: str, position: str | None, problems: Problems, on_change: Callable[[], None]
    ) -> None:
        self.source = plan.index
        self.origin = origin_of(plan, split)
        self.closed = False
        """The split has ended: nothing comes after what is in the buffer."""
        self._idle = plan.source.idle.total_seconds()
        self._starts_over = plan.source.delivery == "at-least-once"
        self._position = position
        self._problems = problems
        self._on_change = on_change
        self._buffer: deque[Records] = deque()
        self.count = self._bytes = 0
        self.taken = 0
        """Records that were pulled (or given up, as they come again)."""
        self._room = asyncio.Event()
        self._room.set()
        self._session = SplitSession(plan, split, self.origin)
        self._thread = OwnThread(f"headrace-{self.origin}")
        self._task = asyncio.create_task(self._run(), name=f"pump {self.origin}")

    @property
    def finished(self) -> bool:
        """It has ended, and all of it is pulled."""
        return self.closed and not self._buffer

    def take(self, limit: int) -> list[Records]:
        """What has arrived, at most `limit` records."""
        taken: list[Records] = []
        while self._buffer and limit > 0:
            first = self._buffer.popleft()
            if len(first) > limit:
                first, rest = cut(first, limit)
                self._buffer.appendleft(rest)
            limit -= len(first)
            self.taken += len(first)
            self._count_in(first, -1)
            taken.append(first)
        return taken

    def _count_in(self, records: Records, sign: int) -> None:
        self.count += sign * len(records)
        self._bytes += sign * sum(len(value or b"") for value in records.values)
        if self.count < BUFFER and self._bytes < BUFFER_BYTES:
            self._room.set()
        else:
            self._room.clear()

    def committed(self, position: str) -> None:
        """Records up to this position are committed."""
        if self._session.wants_commits:
            self._thread.tell(self._session.committed, position)

    async def stop(self) -> None:
        """Read no more, and have the user's code let go of what is open."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._close()
        self._thread.stop()
        self._problems.forget(self.origin)

    async def _close(self) -> None:
        try:  # not by `wait_for`: until Python 3.12 it swallows a cancellation that comes with the answer
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._thread.call(self._session.close)
        except TimeoutError:
            _log.warning("source_not_closed", origin=self.origin, reason=f"busy for {_CLOSE_WITHIN:g} s")
        except Exception:  # noqa: BLE001  user code: whatever it raises
            _log.exception("source_not_closed", origin=self.origin)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self.closed:
            try:
                await self._thread.call(self._session.open, self._position)
                while await self._read():
                    pause = _FIRST_PAUSE
            except Exception as error:  # noqa: BLE001  user code: whatever it raises
                self._failed(error)
                await self._close()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        self._on_change()

    async def _read(self) -> bool:
        """Read once. False at the end."""
        await self._room.wait()
        records = await self._thread.call(self._session.read, min(BATCH, BUFFER - self.count))
        self._problems.solved(FAILED, self.origin)
        if records is None:
            self.closed = True
        elif records:
            self._buffer.append(records)
            self._count_in(records, 1)
            self._position = records.after
            self._on_change()
        else:
            await asyncio.sleep(self._idle)
        return not self.closed

    def _failed(self, error: Exception) -> None:
        sentence = f"{self.origin} can't be read: {type(error).__name__}: {error}. Headrace opens it again."
        if self._problems.tell(FAILED, self.origin, sentence):
            _log.warning("source_failed", origin=self.origin, exc_info=error)
        if self._starts_over:  # what is not acknowledged comes again
            self._buffer.clear()
            self.taken += self.count
            self.count = self._bytes = 0
            self._room.set()


def origin_of(plan: SourcePlan, split: str) -> str:
    """Name of a split's log in positions and event ids."""
    return f"{plan.name}/{split}"


def cut(records: Records, count: int) -> tuple[Records, Records]:
    """The first `count` records of a split, and the rest."""
    parts = []
    for rows in (slice(count), slice(count, None)):
        assert records.positions is not None
        assert records.ids is not None
        positions = records.positions[rows]
        within = range(rows.start or 0, (rows.start or 0) + len(positions))
        faults = {index - within[0]: fault for index, fault in (records.faults or {}).items() if index in within}
        parts.append(
            Records(
                records.source, records.origin, records.offsets[rows], records.times[rows], records.keys[rows],
                records.values[rows], positions[-1], ids=records.ids[rows], positions=positions, faults=faults or None,
                headers=None if records.headers is None else records.headers[rows],
            )
        )  # fmt: skip
    return parts[0], parts[1]
