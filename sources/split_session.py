"""A split as it is open in its thread: a user's `Split` on one side, columns of records on the other."""

from __future__ import annotations

import inspect
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headrace.sources.custom import CustomSource, Raw, Record, Split
from headrace.workflows.codec import json_codec
from headrace.workflows.errors import CodecError, HeadraceError
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Headers, Records

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class SourceMisbehaves(HeadraceError):
    """A source of a user's own breaks its contract; says which part of it."""


class SplitSession:
    """One split of a source, opened again and again. All but `wants_commits` is used in the split's thread only.

    Args:
        plan: The source.
        split: Name of the split.
        origin: Name of its log.
    """

    def __init__(self, plan: SourcePlan, split: str, origin: str) -> None:
        self._plan = plan
        self._source: CustomSource[Any] = plan.source
        self._name = split
        self._origin = origin
        self._encode: Callable[[Any], bytes] = json_codec(self._source.type).encode
        self._replays = self._source.delivery == "exactly-once"
        self._split: Split[Any] | None = None
        self._session = ""
        self._read = 0
        self._last: str | None = None
        self._outstanding: deque[tuple[int, str]] = deque()
        """Records that this opening has read, and that are not committed: number, and the user's position."""
        self.wants_commits = False

    async def open(self, position: str | None) -> None:
        """Open the user's split, at a position if it can go back to one."""
        self._session, self._read, self._last = secrets.token_hex(4), 0, position
        self._outstanding.clear()
        opened = self._source.open(self._name, position if self._replays else None)
        split = await opened if inspect.isawaitable(opened) else opened
        if not isinstance(split, Split):
            raise SourceMisbehaves(f"open() gave back {split!r}. Give an object of a class derived from Split")
        self._split = split
        self.wants_commits = type(split).committed is not Split.committed

    async def read(self, limit: int) -> Records | None:
        """What the user's split has now, as columns; None at its end."""
        assert self._split is not None
        answer = self._split.read(limit)
        rows = await answer if inspect.isawaitable(answer) else answer
        return None if rows is None else self._columns(rows)

    async def committed(self, text: str) -> None:
        """Tell the user's split how far its records are committed (`text`: as in the store)."""
        position = text if self._replays else self._acknowledged(text)
        if position is not None and self._split is not None:
            answer = self._split.committed(position)
            if inspect.isawaitable(answer):
                await answer

    async def close(self) -> None:
        """Close the user's split, if there is one."""
        split, self._split = self._split, None
        if split is not None:
            answer = split.close()
            if inspect.isawaitable(answer):
                await answer

    def _acknowledged(self, text: str) -> str | None:
        session, _, number = text.partition("-")
        if session != self._session:
            return None  # read before it was opened again: the other side gives these once more
        position = None
        while self._outstanding and self._outstanding[0][0] <= int(number):
            position = self._outstanding.popleft()[1]
        return position

    def _columns(self, rows: Sequence[Record[Any]]) -> Records:
        now = time.time_ns() // 1_000_000
        records = Records(self._plan.index, self._origin, [], [], [], [], "", ids=[], positions=[])
        headers: list[Headers] = []
        faults: dict[int, str] = {}
        for index, row in enumerate(rows):
            self._add(records, row, now)
            value, fault = self._value(row.data)
            records.values.append(value)
            if fault is not None:
                faults[index] = fault
            headers.append(_headers(row))
        records.faults = faults or None
        records.headers = headers if any(headers) else None
        if records.positions:
            records.after = records.positions[-1]
        return records

    def _add(self, records: Records, row: Record[Any], now: int) -> None:
        if not isinstance(row, Record):
            raise SourceMisbehaves(f"read() gave back {row!r} among its records. Give a list of Record(data, ...)")
        text = self._position(row)
        offsets: list[Any] = records.offsets
        offsets.append(text)
        records.times.append(now if row.time is None else _milliseconds(row.time))
        records.keys.append(None if row.key is None else row.key.encode())
        assert records.ids is not None
        assert records.positions is not None
        records.ids.append(row.id or f"{self._origin}/{text}")
        records.positions.append(text)

    def _position(self, row: Record[Any]) -> str:
        """What is committed for it: the user's own position, or our number where there is no going back."""
        if not self._replays:
            self._read += 1
            if row.position:
                self._outstanding.append((self._read, row.position))
            return f"{self._session}-{self._read}"
        if not row.position or row.position == self._last:
            raise SourceMisbehaves(
                f"a record has the position {row.position!r}, "
                + ("as the one before it" if row.position else "which is none")
                + ". In an exactly-once source each has its own: Record(data, position='42')"
            )
        self._last = row.position
        return row.position

    def _value(self, data: Any) -> tuple[bytes, str | None]:
        if isinstance(data, Raw):
            return data.value, data.fault
        try:
            return self._encode(data), None
        except CodecError as error:
            return repr(data).encode("utf-8", "replace"), str(error)


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise SourceMisbehaves(f"the time {moment} of a record has no time zone: write datetime(..., tzinfo=UTC)")
    return (moment - _EPOCH) // _MILLISECOND


def _headers(row: Record[Any]) -> Headers:
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in row.headers.items())
