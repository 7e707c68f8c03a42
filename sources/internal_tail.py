"""What has been read of a partition's streams of our own: events of other partitions, what people ask of its runs."""

from __future__ import annotations

from headrace.sources.tail import Tail
from headrace.workflows import control, transfers
from headrace.workflows.records import Records


class InternalTail(Tail):
    """The unread end of an internal stream; its records are of any source, and have the ids they came with."""

    __slots__ = ()

    def take(self, limit: int) -> list[Records]:
        """The oldest `limit` entries, as records of one source each."""
        entries = [(id_, transfers.decode(fields[b"blob"])) for id_, fields in self.oldest(limit)]
        return transfers.as_records(entries, self.sources)


class ControlTail(Tail):
    """The unread end of a control stream."""

    __slots__ = ()

    def take(self, limit: int) -> list[Records]:
        """The oldest `limit` entries."""
        entries = [(id_, fields[b"blob"]) for id_, fields in self.oldest(limit)]
        return [control.as_records(entries)] if entries else []
