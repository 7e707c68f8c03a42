"""Connections to one server for what is asked most: scripts and reads of streams, with as little between as can be.

The client library connects, logs in and chooses the database; from then on a connection is a `Line`: bytes out, answers
in, no task and no reader between. A line carries one exchange at a time, as the library's connections do, so that a
WAIT speaks of the write before it, and one that is given up is closed. Measured: an exchange costs a fourth of what it
does by the library (docs/decisions/lines.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis import exceptions
from redis._parsers.base import BaseParser

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = Sequence[Argument]

NOTHING: Final = object()
"""Of a reader: it has no whole answer yet."""
CLOSED: Final = "Connection closed by server."


class Wire(asyncio.Protocol):
    """A connection of the client library, taken over: bytes go out, and what comes in is parsed.

    Args:
        connection: Connected. The wire has its transport from now on.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # it owns what closes when it is collected
        self._transport: asyncio.Transport = connection._writer.transport
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=NOTHING
        )

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._transport.abort()
        self._connection._close()


class Line(Wire):
    """One connection that asks; see `Wire`."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[list[Any]] | None = None
        self._answers: list[Any] = []
        self._left = 0
        self.closed = self._transport.is_closing()

    async def exchange(self, commands: Sequence[Command], within: float | None) -> list[Any]:
        """Answers of commands, errors among them; a line that is left before they are there is closed.

        Args:
            commands: Sent together.
            within: Seconds until the last answer; None: as long as it takes.

        Raises:
            redis.exceptions.TimeoutError, redis.exceptions.ConnectionError: There are no answers, or not all.
        """
        self._asked = asked = self._loop.create_future()
        self._answers, self._left = [], len(commands)
        ending = None if within is None else self._loop.call_later(within, self._too_late)
        try:
            self._transport.write(packed(commands))
            answers: list[Any] = await asked
            return answers
        except BaseException:
            self.close()
            raise
        finally:
            self._asked = None
            if ending is not None:
                ending.cancel()

    def close(self) -> None:
        """Hang up. Idempotent."""
        self.closed = True
        super().close()

    def data_received(self, data: bytes) -> None:
        """Of asyncio: answers, or parts of them."""
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not NOTHING:
                self._take(answer)
        except exceptions.InvalidResponse as error:
            self._fail(error)

    def _take(self, answer: Any) -> None:
        self._answers.append(answer)
        self._left -= 1
        if self._left < 0:
            self._fail(exceptions.InvalidResponse("an answer to nothing that was asked"))
        elif self._left == 0 and self._asked is not None and not self._asked.done():
            self._asked.set_result(self._answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio: the server, or `close`, has hung up."""
        self._fail(exceptions.ConnectionError(str(exc) if exc else CLOSED))

    def _too_late(self) -> None:
        self._fail(exceptions.TimeoutError("Timeout reading from the server"))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)


class Lines:
    """Lines of one client: as many as are used at the same time, up to a limit; who wants one more waits for it.

    Args:
        dial: Makes a connection of the client library, connected.
        most: How many at most.
        answer_within: Seconds until answers have to be there; None: as long as it takes.
        wait: Seconds to wait for a line.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Any]], *, most: int, answer_within: float | None, wait: float
    ) -> None:
        self.dial = dial
        """Makes one more connection, for whoever needs it for something else."""
        self._within = answer_within
        self._wait = wait
        self._room = most
        self._free: list[Line] = []
        self._all: set[Line] = set()
        self._queue: deque[asyncio.Future[None]] = deque()

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Answers of commands that travel together; see `Line.exchange`."""
        line = await self._line()
        try:
            return await line.exchange(commands, self._within)
        finally:
            self._give_back(line)

    def close(self) -> None:
        """Hang up all; exchanges that are under way fail. Idempotent, and it can be used anew."""
        for line in list(self._all):
            line.close()
        self._free.clear()

    async def _line(self) -> Line:
        while True:
            while self._free:
                line = self._free.pop()
                if not line.closed:
                    return line
                self._forget(line)
            if self._room:
                return await self._another()
            await self._turn()

    async def _another(self) -> Line:
        self._room -= 1
        try:
            line = Line(await self.dial())
        except BaseException:
            self._leave()
            raise
        self._all.add(line)
        return line

    async def _turn(self) -> None:
        """Wait until one is free, or may be made."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except TimeoutError:
            raise exceptions.ConnectionError("No connection available.") from None
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._next()  # it was ours, and we go
            raise

    def _give_back(self, line: Line) -> None:
        if line.closed:
            self._forget(line)
            return
        self._free.append(line)
        self._next()

    def _forget(self, line: Line) -> None:
        if line in self._all:
            self._all.discard(line)
            self._leave()

    def _leave(self) -> None:
        self._room += 1
        self._next()

    def _next(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as they travel (RESP)."""
    pack: Any = hiredis.pack_command  # its stub takes tuples of one word
    return b"".join([pack(_words(command)) for command in commands])


def _words(command: Command) -> tuple[Argument, ...]:
    """A name of two words counts as two."""
    name = command[0]
    if isinstance(name, str) and " " in name:
        return (*name.split(), *command[1:])
    return tuple(command)
