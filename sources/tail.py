"""What has been read of one stream and waits to be pulled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from headrace.workflows.executing import entry_of
from headrace.workflows.records import Headers, Records


class Tail:
    """The unread end of one stream, as far as it is here.

    Args:
        partition: Whose stream it is.
        origin: Its name in positions: `channel:<name>` or `inbox`.
        key: Its name in the store.
        sources: Index of the channel's source; of an inbox: name of the source -> index.
        after: Position to read on from.
    """

    __slots__ = (
        "_entries",
        "finished_reading",
        "key",
        "origin",
        "partition",
        "read",
        "source",
        "sources",
        "told",
    )

    def __init__(self, partition: int, origin: str, key: bytes, sources: Mapping[str, int] | int, after: str) -> None:
        self.partition = partition
        self.origin = origin
        self.key = key
        self.source = sources if isinstance(sources, int) else None
        self.sources: Mapping[str, int] = {} if isinstance(sources, int) else sources
        self.read: str | bytes = after
        """Id of the last entry read."""
        self.finished_reading = False
        """The mark of a closed channel was read: nothing comes after it."""
        self.told = False
        self._entries: deque[tuple[str, dict[bytes, bytes]]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def finished(self) -> bool:
        """The channel is closed, and all of it is pulled."""
        return self.finished_reading and not self._entries

    def full(self, limit: int) -> bool:
        """Has it so many entries that it should not be read on?"""
        return len(self._entries) >= limit

    def passed(self, end: bytes) -> bool:
        """Everything up to this entry has been read and pulled."""
        first = self._entries[0][0] if self._entries else None
        return _place(self.read) >= _place(end) and (first is None or _place(first) > _place(end))

    def put(self, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Take in what was read, in order."""
        for id_, fields in entries:
            self.read = id_
            if b"closed" in fields:
                self.finished_reading = True
            else:
                self._entries.append((id_.decode(), fields))

    def take(self, limit: int) -> list[Records]:
        """The oldest `limit` entries, as records of one source each."""
        batches: list[Records] = []
        records: Records | None = None
        for id_, fields in self.oldest(limit):
            entry = None if self.source is not None else entry_of(fields.get(b"source", b"").decode())
            source = self._source_of(fields) if entry is None else -1
            if records is None or (records.source, records.entry) != (source, entry):
                records = Records(source, self.origin, [], [], [], [], "", ids=[], replies=[], entry=entry)
                records.unknown = fields.get(b"source", b"").decode() if source < 0 else ""
                batches.append(records)
            _add(records, id_, fields)
        return batches

    def oldest(self, limit: int) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """The oldest `limit` entries, which are taken out: id and fields."""
        for _ in range(min(limit, len(self._entries))):
            yield self._entries.popleft()

    def _source_of(self, fields: Mapping[bytes, bytes]) -> int:
        if self.source is not None:
            return self.source
        name = fields.get(b"source", b"").decode()
        # A request for a source that a newer version has no more: its only or first one takes it.
        return self.sources.get(name, next(iter(self.sources.values()), -1))


def _place(stream_id: str | bytes) -> tuple[int, int]:
    text = stream_id.decode() if isinstance(stream_id, bytes) else stream_id
    time, _, number = text.partition("-")
    return int(time), int(number or "0")


encode_headers: Final = msgspec.msgpack.Encoder().encode
"""An event's headers as an entry's field `headers` has them."""
_decode_headers: Final = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


def _add(records: Records, id_: str, fields: Mapping[bytes, bytes]) -> None:
    offsets: list[Any] = records.offsets
    headers = fields.get(b"headers")
    if headers is not None or records.headers is not None:
        all_headers: list[Headers] = records.headers or [()] * len(offsets)
        all_headers.append(() if headers is None else _decode_headers(headers))
        records.headers = all_headers
    offsets.append(id_)
    records.times.append(int(fields.get(b"time", b"0")))
    records.keys.append(fields.get(b"key") or None)
    records.values.append(fields.get(b"data"))
    if records.ids is not None:
        records.ids.append(fields.get(b"id", b"").decode() or f"{records.origin}/{id_}")
    if records.replies is not None:
        reply = fields.get(b"reply")
        records.replies.append(reply.decode() if reply else None)
    records.after = id_
