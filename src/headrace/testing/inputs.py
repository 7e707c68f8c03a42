"""What was sent to the sources: logs for topics, streams in the store for channels and requests."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.sources.requests import INBOX_KINDS
from headrace.workflows import control
from headrace.workflows.executing import entry_of
from headrace.workflows.keyspace import CONTROL, INTERNAL
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import Plan, SourcePlan
from headrace.workflows.records import Headers, Records
from headrace.workflows.stream_entry import StreamEntry
from headrace.workflows.transfers import as_records, decode

INBOX = "inbox"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One record of a topic partition, or of what stands for it in tests of other sources."""

    key: bytes | None
    value: bytes | None
    time: int
    headers: Headers
    id: str | None = None
    """Of the event; None: made from its place."""
    fault: str | None = None
    """What is wrong with it, as the source says."""


class Inputs:
    """All that the sources of one workflow hold; read on from positions, as the real readers do.

    Args:
        plan: The workflow.
        partitions: Shares of its key space.
        store: Where channels, inboxes and internal streams lie.
    """

    def __init__(self, plan: Plan, partitions: int, store: MemoryStore) -> None:
        self._store = store
        self._partitions = partitions
        self._logs: dict[tuple[int, int], list[LogEntry]] = {}
        self._others = [source for source in plan.sources if not in_store(source)]
        self._channels = [source for source in plan.sources if source.source.kind == "channel"]
        self._requests = {source.name: source.index for source in plan.sources if source.source.kind in INBOX_KINDS}
        self._names = {source.name: source.index for source in plan.sources}

    def take_over(self, before: Inputs) -> None:
        """Have in each log what the source of its name has there in another version of the workflow."""
        names = {index: name for name, index in before._names.items()}
        for (index, partition), entries in before._logs.items():
            if names[index] in self._names:
                self._logs[self._names[names[index]], partition] = list(entries)

    def append(self, source: SourcePlan, partition: int, entry: LogEntry) -> None:
        """Put a record at the end of a source's log."""
        self._logs.setdefault((source.index, partition), []).append(entry)

    def pull(self, partition: int, positions: dict[str, str], limit: int) -> list[Records]:
        """What lies behind `positions`, which move on: streams first, then all others."""
        batches: list[Records] = []
        batches += self._stream(partition, INBOX, None, positions, limit)
        batches += self._internal(partition, positions, limit)
        for source in self._channels:
            batches += self._stream(partition, _origin(source, partition), source.index, positions, limit)
        for source in self._others:
            for number in self._of(source, partition):
                batches += self._log(source, number, positions, limit)
        return batches

    def pull_control(self, partition: int, positions: dict[str, str]) -> list[Records]:
        """What is asked of runs from outside, behind `positions`, which move on."""
        entries = self._store.stream(partition, CONTROL, positions.get(CONTROL, "0-0"))
        if not entries:
            return []
        positions[CONTROL] = entries[-1].id
        return [control.as_records([(entry.id, entry.data) for entry in entries])]

    def _of(self, source: SourcePlan, partition: int) -> list[int]:
        """Topic partitions of a source that a partition reads: every so many-th, where the topic has more."""
        held = (number for index, number in self._logs if index == source.index)
        return sorted(number for number in held if number % self._partitions == partition)

    def remainder(self, source: SourcePlan, partition: int, positions: Mapping[str, str]) -> list[Records]:
        """Records of one source that lie behind `positions`, in order."""
        kind, origin = source.source.kind, _origin(source, partition)
        if not in_store(source):
            left = dict(positions)
            return [
                row for number in self._of(source, partition) for row in self._log(source, number, left, sys.maxsize)
            ]
        entries = self._store.stream(partition, origin, positions.get(origin, "0-0"))
        records = Records(source.index, origin, [], [], [], [], "", ids=[], replies=[])
        for entry in entries:
            if kind == "channel" or entry.source == source.name:
                _add(records, entry)
        return [records]

    def _log(self, source: SourcePlan, partition: int, positions: dict[str, str], limit: int) -> list[Records]:
        origin = _origin(source, partition)
        start = int(positions.get(origin, "0"))
        entries = self._logs.get((source.index, partition), [])[start : start + limit]
        if not entries:
            return []
        positions[origin] = str(start + len(entries))
        faults = {index: entry.fault for index, entry in enumerate(entries) if entry.fault is not None}
        return [
            Records(
                source.index, origin, list(range(start, start + len(entries))),
                times=[entry.time for entry in entries], keys=[entry.key for entry in entries],
                values=[entry.value for entry in entries], after=positions[origin],
                headers=[entry.headers for entry in entries] if any(entry.headers for entry in entries) else None,
                ids=[entry.id or f"{origin}/{start + index}" for index, entry in enumerate(entries)]
                if any(entry.id for entry in entries)
                else None,
                faults=faults or None, topic=_topic(source),
            )
        ]  # fmt: skip

    def _internal(self, partition: int, positions: dict[str, str], limit: int) -> list[Records]:
        entries = self._store.stream(partition, INTERNAL, positions.get(INTERNAL, "0-0"))[:limit]
        if entries:
            positions[INTERNAL] = entries[-1].id
        return as_records([(entry.id, decode(entry.data)) for entry in entries], self._names)

    def _stream(
        self, partition: int, origin: str, source: int | None, positions: dict[str, str], limit: int
    ) -> list[Records]:
        batches: list[Records] = []
        for entry in self._store.stream(partition, origin, positions.get(origin, "0-0"))[:limit]:
            way = entry_of(entry.source) if source is None else None
            index = -1 if way is not None else self._requests[entry.source] if source is None else source
            if not batches or (batches[-1].source, batches[-1].entry) != (index, way):
                unknown = entry.source if way is not None else ""
                batches.append(
                    Records(index, origin, [], [], [], [], "", ids=[], replies=[], entry=way, unknown=unknown)
                )
            _add(batches[-1], entry)
            positions[origin] = entry.id
        return batches


def in_store(source: SourcePlan) -> bool:
    """Its events lie in streams of the store (channels, requests); those of all others in a log of their own."""
    return source.source.kind in ("channel", *INBOX_KINDS)


def _origin(source: SourcePlan, partition: int) -> str:
    """Name of a source's log or stream in one partition, as in event ids."""
    match source.source.kind:
        case "channel":
            return f"channel:{source.name}"
        case "requests" | "messages":
            return INBOX
        case _:
            return f"{source.name}/{partition}"


def _topic(source: SourcePlan) -> str:
    """Of a source that reads all topics that match a pattern, the source's name: tests have one log for all of them."""
    topic = getattr(source.source, "topic", "")
    return topic if isinstance(topic, str) else source.name


def _add(records: Records, entry: StreamEntry) -> None:
    offsets: list[str] = records.offsets  # type: ignore[assignment]  # of a stream they are its ids
    if entry.headers or records.headers is not None:
        records.headers = [*(records.headers or [()] * len(offsets)), entry.headers]
    offsets.append(entry.id)
    records.times.append(entry.time)
    records.keys.append(entry.key.encode() or None)
    records.values.append(entry.data)
    records.after = entry.id
    if records.ids is not None and records.replies is not None:
        records.ids.append(f"{records.origin}/{entry.id}" if entry.event == entry.id else entry.event)
        records.replies.append(entry.reply)
