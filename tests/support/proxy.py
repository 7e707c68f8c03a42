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
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.target = free_port()
        """Port that the server is to listen on."""
        self.carried = 0
        """Connections that were accepted while the way was open."""
        self._open = True
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
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        self._pairs -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
