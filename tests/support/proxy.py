"""A TCP proxy in this process, whose connections can be cut or stalled: a network that breaks while servers run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from headrace.embedded.ports import LOOPBACK, free_port

_CHUNK = 1 << 16


class Proxy:
    """Carries bytes between clients and a server on the loopback interface; use as `with Proxy() as proxy`.

    Both ports are known before the server runs, as a broker must advertise the one and listen on the other.

    Args:
        target: Port of a server that is there already; None: one to come.
    """

    def __init__(self, target: int | None = None) -> None:
        self.port = free_port()
        self.target = target or free_port()
        """Port that the server is to listen on."""
        self.carried = 0
        """Connections that were accepted while the way was open."""
        self.cuts = 0
        """How often all connections were cut by `cut_after`."""
        self._open = True
        self._left: int | None = None
        self._piece = _CHUNK
        self._flows = asyncio.Event()
        self._pairs: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        """For clients: `127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.port}"

    def cut(self) -> None:
        """Close all connections, and each new one at once."""
        self._do(self._cut)

    def stall(self) -> None:
        """Carry nothing on; connections stay open, and new ones are accepted."""
        self._do(self._flows.clear)

    def chop(self, size: int) -> None:
        """Carry what comes in pieces of so many bytes at most."""
        self._piece = size

    def cut_after(self, size: int) -> None:
        """Close all connections, once, as soon as so many more bytes have come from the server: amid an answer."""
        self._do(lambda: setattr(self, "_left", size))

    def heal(self) -> None:
        """As before."""
        self._do(self._heal)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._flows.set)
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, action: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(10)

    def _cut(self) -> None:
        self._open = False
        for writer in self._pairs:
            writer.transport.abort()

    def _heal(self) -> None:
        self._open = True
        self._flows.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def _end(self) -> None:
        self._server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        self.carried += 1
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._pairs |= {writer, back}
        with contextlib.suppress(asyncio.CancelledError):  # at the end; the server would speak of it as an error
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer, answers=True))
        self._pairs -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(self._piece):
                await self._flows.wait()
                left = self._left if answers else None
                sink.write(data[:left])
                await sink.drain()
                if left is not None:
                    self._left = None if left < len(data) else left - len(data)
                    if self._left is None:
                        self.cuts += 1
                        await asyncio.gather(*(writer.drain() for writer in self._pairs), return_exceptions=True)
                        self._cut_once()
        sink.close()

    def _cut_once(self) -> None:
        self._cut()
        self._open = True
