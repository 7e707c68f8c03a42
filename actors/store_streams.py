"""Streams of runs in the store: what nodes write at once, and what followers read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import structlog

from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, connect, store_errors
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.run_streams import Streamed
from headrace.workflows.store import StoreFull, StoreUnavailable
from headrace.workflows.streaming import StreamLost, StreamPlace

_APPEND: Final = Script(Path(__file__).parent / "scripts" / "stream_append.lua")
_log = structlog.get_logger(__name__)
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_WHY: Final = {
    b"FENCED": "its partition has another owner",
    b"STALE": "another process has its event, or another run its key",
    b"ENDED": "its run has ended",
}


class StreamWriter:
    """Takes what the nodes of one process write, for all partitions. Connects when the first one does.

    Args:
        url: Address of the store.
        workflow: Whose nodes.
        incarnation: Of the process: higher than that of all that have had its role before.
    """

    def __init__(self, url: str, workflow: str, incarnation: int) -> None:
        self._url = url
        self._workflow = workflow
        self._incarnation = str(incarnation)
        self._client: Any = None

    async def append(
        self, partition: int, owner: str, place: StreamPlace, token: str, number: int, value: bytes
    ) -> None:
        """See `StreamSink.append`."""
        if self._client is None:
            self._client = connect(self._url, connections=8, blocking=True)
        asked = (
            owner, place.run, str(place.number), place.stream, as_text(place), place.node, self._incarnation, token,
            str(number), value,
        )  # fmt: skip
        pause = _FIRST_PAUSE
        while True:
            try:
                with store_errors(self._url):
                    head = PartitionKeys(self._workflow, partition).head
                    answer = await _APPEND.write(self._client, Effect.STREAM_APPEND, head, *asked)
            except (StoreUnavailable, StoreFull) as problem:
                _log.info("stream_not_written", stream=place.stream, reason=str(problem))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                break
        if answer in _WHY:
            raise StreamLost(_WHY[answer])

    async def close(self) -> None:
        """Disconnect; on the loop on which it was used."""
        if self._client is not None:
            await self._client.aclose()


def as_text(place: StreamPlace) -> str:
    """An attempt's place within its stream, as the store has it."""
    return f"{place.node} {place.event}"


def rows_of(places: list[StreamPlace]) -> list[tuple[str, str, str, str]]:
    """Places as the script of a commit gets them."""
    return [(place.run, str(place.number), place.stream, as_text(place)) for place in places]


class StreamStore:
    """Reads the streams of any workflow's runs.

    Who follows one listens to `PartitionKeys.streamed` and reads on when told (a JSON list: run and stream), after it
    has subscribed, and whenever its connection has been away.

    Args:
        registry: Connection to the store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def names(self, workflow: str, partition: int, key: str) -> list[str]:
        """Of all streams that a run has, sorted.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        with store_errors(self._registry.address):
            fields: Any = await self._registry.client.hkeys(PartitionKeys(workflow, partition).streams(key))
        return sorted(field.decode()[2:] for field in fields if field.startswith(b"s:"))

    async def read(
        self, workflow: str, partition: int, key: str, name: str, *, after: str = "0", limit: int = 1000
    ) -> list[Streamed]:
        """Entries of a stream, in order.

        Args:
            workflow: Name of the workflow.
            partition: Where the key belongs.
            key: Of the run; it need not be committed yet.
            name: Of the stream.
            after: Id of the last entry that was read; `0` from the first.
            limit: How many at most.

        Returns:
            Values, and `reset`s: what was read with the id that it names, or a higher one, is void. Last of all comes
            the `end`, once the run has ended. See `values_of`.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        stream = PartitionKeys(workflow, partition).run_stream(key, name)
        with store_errors(self._registry.address):
            rows: Any = await self._registry.client.xrange(
                stream, "-" if after == "0" else f"({after}", "+", count=limit
            )
        return [entry_of(id_.decode(), fields) for id_, fields in rows]


def entry_of(id_: str, fields: dict[bytes, bytes]) -> Streamed:
    """An entry of a stream, from its fields."""
    if b"v" in fields:
        return Streamed(id_, "value", fields[b"v"])
    if b"r" in fields:
        return Streamed(id_, "reset", fields[b"r"])
    return Streamed(id_, "end", fields[b"e"])
