"""Streams of a test's runs: written into the store in memory, at once, as a node's process writes into the real one."""

from __future__ import annotations

from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.streaming import StreamLost, StreamPlace


class StreamsInMemory:
    """Takes what nodes write."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def append(
        self, partition: int, owner: str, place: StreamPlace, token: str, number: int, value: bytes
    ) -> None:
        """See `StreamSink.append`."""
        if self._store.head(partition).owner != owner:
            raise StreamLost("its partition has another owner")
        self._store.streams(partition).append(place, token, number, value)
