"""Entries of a partition's streams in memory."""

from __future__ import annotations

from dataclasses import dataclass

from .records import Headers


@dataclass(slots=True)
class StreamEntry:
    """One event of a channel, or one request of an inbox."""

    id: str
    """Of the stream, `<n>-0`: what `Commit.trims` and `Records.offsets` speak of."""
    event: str
    """Of the event: chosen by the sender, or the same as `id`."""
    key: str
    data: bytes
    time: int = 0
    """Milliseconds since 1970 UTC."""
    source: str = ""
    reply: str | None = None
    headers: Headers = ()


def order(stream_id: str) -> tuple[int, int]:
    """Sort key of ids of entries, as a server compares them."""
    time, _, number = stream_id.partition("-")
    return int(time), int(number or "0")
