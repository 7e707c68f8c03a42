"""A connection on which is heard what is published: messages come in without a task or a reader between.

It answers as the client library's `PubSub` does, as far as it is used here; see `routing.subscription`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol

from redis import exceptions

from headrace.sources.lines import CLOSED, NOTHING, Wire, packed

_WITH_CHANNEL: Final = frozenset({"message", "subscribe", "unsubscribe"})


class Heard(Protocol):
    """What is heard on one connection: this, or the library's."""

    async def subscribe(self, *channels: str) -> Any:
        """Hear these channels, too."""

    async def unsubscribe(self, *channels: str) -> Any:
        """Hear these no more."""

    async def ping(self) -> Any:
        """Ask for a sign of the server; it comes as a message."""

    async def get_message(self, *, timeout: float | None) -> dict[str, Any] | None:  # noqa: ASYNC109  as the library has it
        """The next message; None: there is none within so many seconds."""


class Ear(Wire):
    """One connection that hears; see `Wire`."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._messages: deque[dict[str, Any]] = deque()
        self._error: Exception | None = None
        self._turn: asyncio.Future[None] | None = None

    async def subscribe(self, *channels: str) -> None:
        """See `Heard`."""
        self._transport.write(packed([("SUBSCRIBE", *channels)]))

    async def unsubscribe(self, *channels: str) -> None:
        """See `Heard`."""
        self._transport.write(packed([("UNSUBSCRIBE", *channels)]))

    async def ping(self) -> None:
        """See `Heard`."""
        self._transport.write(packed([("PING",)]))

    async def get_message(self, *, timeout: float | None) -> dict[str, Any] | None:  # noqa: ASYNC109  as the library has it
        """See `Heard`.

        Raises:
            redis.exceptions.ConnectionError: The connection has broken.
            redis.exceptions.ResponseError: The server has refused something.
        """
        if not self._messages and self._error is None:
            await self._next(timeout)
        if self._messages:
            return self._messages.popleft()
        if self._error is not None:
            raise self._error
        return None

    async def _next(self, seconds: float | None) -> None:
        """Wait for something; whoever it is for, one hears at a time."""
        loop = asyncio.get_running_loop()
        self._turn = turn = loop.create_future()
        ending = None if seconds is None else loop.call_later(seconds, self._wake)
        try:
            await turn
        finally:
            self._turn = None
            if ending is not None:
                ending.cancel()

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not NOTHING:
                if isinstance(answer, Exception):
                    raise answer
                self._messages.append(_message(answer))
        except exceptions.RedisError as error:
            self._fail(error)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._fail(exceptions.ConnectionError(str(exc) if exc else CLOSED))
        self._wake()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error


def _message(answer: Any) -> dict[str, Any]:
    """As the library has it. A ping is answered by a pong, or by its name only where nothing is subscribed to yet."""
    if not isinstance(answer, list):
        return {"type": "pong", "channel": None, "data": answer}
    kind = answer[0].decode()
    if kind in _WITH_CHANNEL:
        return {"type": kind, "channel": answer[1], "data": answer[2]}
    return {"type": kind, "channel": None, "data": answer[1]}
