"""Reads a source of a user's own for real, as a worker would, into the log that stands for it in the test kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from headrace.sources.custom import CustomSource
from headrace.sources.split_session import SplitSession
from headrace.testing.inputs import LogEntry
from headrace.workflows.errors import HeadraceError
from headrace.workflows.fields import field_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records

AT_ONCE = 1000


class Reading:
    """One source, from where it was left: each call opens its splits, reads them on, and closes them.

    Args:
        plan: The source.
        put: Takes the run's key (None: it has none), and an entry for the log.
        decode: Bytes to data.
    """

    def __init__(
        self, plan: SourcePlan, put: Callable[[str | None, LogEntry], None], decode: Callable[[bytes], Any]
    ) -> None:
        self._plan = replace(plan, source=plan.source.in_test())
        self._put = put
        self._decode = decode
        source: CustomSource[Any] = self._plan.source
        self._positions: dict[str, str | None] = dict.fromkeys(source.splits())
        self._ended: set[str] = set()

    @property
    def closed(self) -> bool:
        """All splits have ended."""
        return len(self._ended) == len(self._positions)

    async def read(self, settle: Callable[[], Any]) -> int:
        """Read all that there is now, and settle after each batch. Returns how many records there were."""
        count = 0
        for split, position in self._positions.items():
            session = SplitSession(self._plan, split, f"{self._plan.name}/{split}")
            try:
                await session.open(position)
                while records := await session.read(AT_ONCE):
                    self._take(records)
                    count += len(records)
                    self._positions[split] = records.after
                    await settle()
                    if session.wants_commits:
                        await session.committed(records.after)
                if records is None:
                    self._ended.add(split)
            finally:
                await session.close()
        return count

    def _take(self, records: Records) -> None:
        for index, value in enumerate(records.values):
            key = records.keys[index]
            entry = LogEntry(
                key, value, records.times[index], records.headers[index] if records.headers else (),
                records.ids[index] if records.ids else None, (records.faults or {}).get(index),
            )  # fmt: skip
            self._put(self._run_of(key, value), entry)

    def _run_of(self, record_key: bytes | None, value: bytes | None) -> str | None:
        key = self._plan.key
        if key is None:
            return record_key.decode() if record_key else None
        try:
            data = self._decode(value or b"")
            found = key(data) if callable(key) else field_of(data, key)
        except (msgspec.MsgspecError, HeadraceError, ValueError, TypeError, AttributeError, KeyError):
            return None  # it will be a dead letter, wherever
        return str(found)
