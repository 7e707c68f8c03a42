"""Reads the channels and inboxes of a worker's partitions: all of their streams by one waiting connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from headrace.sources.connection import ANSWER_WITHIN, Client, address_of, connect, store_errors
from headrace.sources.feeding import OnClosed, Surroundings
from headrace.sources.reader import OnProblem, OnReady
from headrace.sources.tail import Tail
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

UNREACHABLE: Final = "redis_unreachable"
_WAIT_MS: Final = 1000
"""Longest wait of one read at the server."""
_WAIT_WHILE_PAUSED_MS: Final = 20
"""The same while a full buffer keeps a stream out of the read, which can't be changed while it waits."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


def make_readers(sources: Sequence[SourcePlan], surroundings: Surroundings) -> list[StreamReader]:
    """One for all channels and requests of a worker; see `Feeder`."""
    return [
        StreamReader(
            surroundings.redis_url, surroundings.workflow, sources,
            on_ready=surroundings.on_ready, on_problem=surroundings.on_problem, on_closed=surroundings.on_closed,
        )
    ]  # fmt: skip


class StreamReader:
    """A `Reader` of all channel and request sources; see there for who calls what when.

    Args:
        url: Address of the store.
        workflow: Name of the workflow.
        sources: Sources of the plan that are channels or take requests.
        on_ready: Told which partition has records.
        on_problem: Told what is wrong with the connection.
        on_closed: Told which channel is closed and read to its end.
        buffer: Records to hold for each stream; at a full buffer the stream is not read.
        batch: Records of one stream in one read.
    """

    def __init__(
        self,
        url: str,
        workflow: str,
        sources: Sequence[SourcePlan],
        *,
        on_ready: OnReady,
        on_problem: OnProblem,
        on_closed: OnClosed | None = None,
        buffer: int = 4096,
        batch: int = 1024,
    ) -> None:
        self._url = url
        self._address = address_of(url)
        self._workflow = workflow
        self._channels = {f"channel:{plan.name}": plan.index for plan in sources if plan.source.kind == "channel"}
        self._requests = {plan.name: plan.index for plan in sources if plan.source.kind == "requests"}
        self._on_ready = on_ready
        self._on_problem = on_problem
        self._on_closed = on_closed
        self._buffer = buffer
        self._batch = batch
        self._tails: dict[int, list[Tail]] = {}
        self._by_key: dict[bytes, Tail] = {}
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Start reading; while the server is away it tries again and says so."""
        if self._task is None:
            self._client = connect(self._url, connections=2, blocking=True)
            self._task = asyncio.create_task(self._read_forever(self._client), name="stream-reader")

    async def assign(self, partition: int, positions: Mapping[str, str]) -> None:
        """Read on from `positions`; what was buffered for the partition is dropped."""
        self._drop(partition)
        keys = PartitionKeys(self._workflow, partition)
        origins: list[tuple[str, Mapping[str, int] | int]] = list(self._channels.items())
        if self._requests:
            origins.insert(0, ("inbox", self._requests))
        tails = [
            Tail(partition, origin, keys.stream(origin).encode(), sources, positions.get(origin, "0-0"))
            for origin, sources in origins
        ]
        self._tails[partition] = tails
        self._by_key.update({tail.key: tail for tail in tails})
        self._changed.set()

    async def revoke(self, partition: int) -> None:
        """Stop reading for `partition`, and drop what is buffered."""
        self._drop(partition)
        self._changed.set()

    def _drop(self, partition: int) -> None:
        for tail in self._tails.pop(partition, []):
            self._by_key.pop(tail.key, None)

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived, requests first, then one channel after the other; never waits."""
        pulled: list[Records] = []
        for tail in self._tails.get(partition, []):
            pulled.extend(tail.take(limit - sum(map(len, pulled))))
            self._tell_if_closed(tail)
        return pulled

    def committed(self, partition: int, positions: Mapping[str, str]) -> None:
        """See `Reader`: the commit itself has trimmed the streams."""

    def closed_sources(self, partition: int) -> set[int]:
        """Indexes of the channels that are closed and, in this partition, pulled to their end."""
        return {tail.source for tail in self._tails.get(partition, []) if tail.source is not None and tail.finished}

    def _tell_if_closed(self, tail: Tail) -> None:
        if tail.finished and not tail.told and tail.source is not None:
            tail.told = True
            if self._on_closed is not None:
                self._on_closed(tail.partition, tail.source)

    async def close(self) -> None:
        """Stop reading and disconnect; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _read_forever(self, client: Client) -> None:
        pause = _FIRST_PAUSE
        away = False
        while True:
            try:
                await self._read_once(client)
            except StoreUnavailable as problem:
                if not away:
                    self._on_problem(UNREACHABLE, str(problem))
                away = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:  # noqa: BLE001  a defect, or a damaged stream: a reader that stops would be silent
                _log.exception("stream_read_failed", workflow=self._workflow)
                self._on_problem("stream_unreadable", "a stream can't be read; the log has the reason")
                await asyncio.sleep(_LONGEST_PAUSE)
            else:
                if away:
                    self._on_problem(UNREACHABLE, "")
                away = False
                pause = _FIRST_PAUSE

    async def _read_once(self, client: Client) -> None:
        """One read of all streams that have room in their buffers, given up when the assignment changes."""
        self._changed.clear()
        tails = [tail for tail in self._by_key.values() if not tail.finished_reading]
        open_ = [tail for tail in tails if not tail.full(self._buffer)]
        if not open_:
            wait = _WAIT_WHILE_PAUSED_MS / 1000 if tails else None
            await self._change(wait)
            return
        wait_ms = _WAIT_MS if len(open_) == len(tails) else _WAIT_WHILE_PAUSED_MS
        read = asyncio.ensure_future(self._xread(client, open_, wait_ms))
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((read, change), return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            if not read.done():
                read.cancel()
        if read.done() and not read.cancelled():
            self._take_in(read.result())
        else:
            await asyncio.gather(read, return_exceptions=True)

    async def _change(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):  # `wait_for` may swallow a cancellation, until Python 3.12
                await self._changed.wait()
        except TimeoutError:
            return

    async def _xread(self, client: Client, tails: Iterable[Tail], wait_ms: int) -> list[Any]:
        untyped: Any = client
        with store_errors(self._address):
            async with asyncio.timeout(wait_ms / 1000 + ANSWER_WITHIN):
                streams = {tail.key: tail.read for tail in tails}
                answer: list[Any] = await untyped.xread(streams, count=self._batch, block=wait_ms)
        return answer

    def _take_in(self, answer: list[Any]) -> None:
        ready: dict[int, None] = {}
        for key, entries in answer or ():
            tail = self._by_key.get(key)
            if tail is None:
                continue
            tail.put(entries)
            self._tell_if_closed(tail)
            if len(tail):
                ready[tail.partition] = None
        for partition in ready:
            self._on_ready(partition)
