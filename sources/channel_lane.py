"""One process' way into one partition of a channel: one event after the other, none twice, none lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from headrace.sources.connection import ANSWER_WITHIN, Client, Script, store_errors
from headrace.sources.durable import Durable
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import SourceClosed
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.store import StoreFull, StoreUnavailable

_FOLDER: Final = Path(__file__).parent / "scripts"
_APPEND: Final = Script(_FOLDER / "channel_append.lua")
_ROOM: Final = Script(_FOLDER / "channel_room.lua")
_CLOSE: Final = Script(_FOLDER / "channel_close.lua")

_WAIT_SLICE: Final = 1.0
"""Seconds to wait for a token before the room is counted again: a sender may have died with one."""
_PATIENCE: Final = 30.0
"""Seconds to go on while the store is away."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Lane:
    """Sends to one partition; a lock keeps the order of callers, so at most one of them waits at the server.

    Args:
        client: For what is answered at once.
        waiting: For what waits at the server.
        durable: For what has to be durable.
        address: For messages.
        keys: Of the partition.
        channel: Name of the channel.
        capacity: Places of the channel in this partition.
    """

    def __init__(
        self,
        client: Client,
        waiting: Client,
        durable: Durable,
        address: str,
        keys: PartitionKeys,
        channel: str,
        capacity: int,
    ) -> None:
        self._client = client
        self._waiting = waiting
        self._durable = durable
        self._address = address
        self._keys = keys
        self._channel = channel
        self._capacity = capacity
        self._id = secrets.token_hex(8)
        self._number = 0
        self._lock = asyncio.Lock()
        self._known = False
        self._has_token = False

    async def send(self, key: str, body: bytes) -> None:
        """Append one event; see `ChannelSender.send`."""
        async with self._lock:
            self._number += 1
            number = str(self._number)
            now = str(time.time_ns() // 1_000_000)
            self._has_token = False
            while True:
                answer = await self._patiently(lambda: self._append(number, key, now, body))
                if answer == b"APPENDED":
                    return
                if answer == b"CLOSED":
                    raise SourceClosed(self._channel)
                await self._patiently(self._take_token)

    async def close_channel(self) -> None:
        """Nothing more goes in; who waits is woken."""

        async def close() -> None:
            await self._durable.write(_CLOSE, Effect.CHANNEL_CLOSE, self._keys.head, self._channel)

        await self._patiently(close)

    async def remainder(self) -> list[bytes]:
        """Data of all that is not processed."""
        origin = f"channel:{self._channel}"
        with store_errors(self._address):
            untyped: Any = self._client
            position = await untyped.hget(self._keys.positions, origin)
            start = "-" if position is None else b"(" + position
            entries = await untyped.xrange(self._keys.stream(origin), start, "+")
        return [fields[b"data"] for _, fields in entries if b"data" in fields]

    async def _append(self, number: str, key: str, now: str, body: bytes) -> bytes:
        with store_errors(self._address):
            if not self._known:
                await self._count_room()
                self._known = True
            answer: bytes = await self._durable.write(
                _APPEND,
                Effect.CHANNEL_APPEND,
                self._keys.head,
                self._channel,
                self._id,
                number,
                "1" if self._has_token else "0",
                key,
                now,
                body,
            )
        self._has_token = False
        return answer

    async def _take_token(self) -> None:
        """Wait until there is room, or something else to look at (a time-out, a closed channel)."""
        untyped: Any = self._waiting
        with store_errors(self._address):
            async with asyncio.timeout(_WAIT_SLICE + ANSWER_WITHIN):
                with effect(Effect.CHANNEL_CREDIT):
                    token = await untyped.blpop([self._keys.credits(self._channel)], timeout=_WAIT_SLICE)
            if token is None:
                await self._count_room()
        self._has_token = token is not None

    async def _count_room(self) -> None:
        await _ROOM.write(self._client, Effect.CHANNEL_CREDIT, self._keys.head, self._channel, str(self._capacity))

    async def _patiently(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat a step while the store is away: every one of them may be repeated."""
        give_up = time.monotonic() + _PATIENCE
        pause = _FIRST_PAUSE
        while True:
            try:
                return await step()
            except (StoreUnavailable, StoreFull):
                self._known = False
                if time.monotonic() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
