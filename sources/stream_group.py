"""Streams that one connection waits for together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from headrace.sources.connection import ANSWER_WITHIN, Client, store_errors
from headrace.sources.problems import Problems
from headrace.sources.routing import at_owner
from headrace.sources.tail import Tail
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

UNREACHABLE: Final = "redis_unreachable"
_WAIT_MS: Final = 1000
"""Longest wait of one read at the server."""
_WAIT_WHILE_PAUSED_MS: Final = 20
"""The same while a full buffer keeps a stream out of the read, which can't be changed while it waits."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class StreamGroup:
    """Reads streams by one waiting command after the other: those of all partitions, or in a cluster of one.

    Args:
        name: Of the partition, or of all; for problems.
        client: For commands that wait at the server.
        address: For messages.
        problems: Told what is wrong with the connection.
        on_answer: Given what was read: the stream's key and its entries.
        buffer: Records to hold for each stream; at a full buffer the stream is not read.
        batch: Records of one stream in one read.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        address: str,
        problems: Problems,
        on_answer: Callable[[list[Any]], None],
        *,
        buffer: int,
        batch: int,
    ) -> None:
        self._name = name
        self._client = client
        self._address = address
        self._problems = problems
        self._on_answer = on_answer
        self._buffer = buffer
        self._batch = batch
        self._tails: dict[int, list[Tail]] = {}
        self._changed = asyncio.Event()
        self._reading: asyncio.Future[list[Any]] | None = None
        self._task = asyncio.create_task(self._read_forever(), name=f"stream-reader {name}")

    def set(self, partition: int, tails: list[Tail]) -> None:
        """Read these streams of a partition from now on; none: stop."""
        if tails:
            self._tails[partition] = tails
        else:
            self._tails.pop(partition, None)
        self._changed.set()
        if self._reading is not None:
            self._reading.cancel()

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._problems.forget(self._name)

    async def _read_forever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._read_once()
            except StoreUnavailable as problem:
                self._problems.tell(UNREACHABLE, self._name, str(problem))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:  # noqa: BLE001  a defect, or a damaged stream: a reader that stops would be silent
                _log.exception("stream_read_failed", streams=self._name)
                self._problems.tell("stream_unreadable", self._name, "a stream can't be read; the log has the reason")
                await asyncio.sleep(_LONGEST_PAUSE)
            else:
                self._problems.solved(UNREACHABLE, self._name)
                pause = _FIRST_PAUSE

    async def _read_once(self) -> None:
        """One read of all streams that have room in their buffers, given up when the assignment changes."""
        self._changed.clear()
        tails = [tail for row in self._tails.values() for tail in row if not tail.finished_reading]
        open_ = [tail for tail in tails if not tail.full(self._buffer)]
        if not open_:
            wait = _WAIT_WHILE_PAUSED_MS / 1000 if tails else None
            if not tails:
                self._problems.forget(self._name)  # nothing is read: nobody would find out that it is over
            await self._change(wait)
            return
        wait_ms = _WAIT_MS if len(open_) == len(tails) else _WAIT_WHILE_PAUSED_MS
        self._reading = reading = asyncio.ensure_future(self._xread(open_, wait_ms))
        try:
            answer = await reading
        except asyncio.CancelledError:
            # Given up, by `set` or because this task is ended.
            reading.cancel()
            if not self._changed.is_set() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
        else:
            self._on_answer(answer)
        finally:
            self._reading = None

    async def _change(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):  # `wait_for` may swallow a cancellation, until Python 3.12
                await self._changed.wait()
        except TimeoutError:
            return

    async def _xread(self, tails: Iterable[Tail], wait_ms: int) -> list[Any]:
        streams = {tail.key: tail.read for tail in tails}
        ids = streams.values()
        with store_errors(self._address):
            async with asyncio.timeout(wait_ms / 1000 + ANSWER_WITHIN):
                answers = await at_owner(
                    self._client,
                    next(iter(streams)).decode(),
                    ("XREAD", "COUNT", self._batch, "BLOCK", wait_ms, "STREAMS", *streams, *ids),
                )
        return answers[0] or []
