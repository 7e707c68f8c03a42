"""A caller that costs little: HTTP/1.1 over kept connections, one request at a time on each, timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_LENGTH = b"content-length:"
_OK = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer."""

    status: int
    body: bytes
    seconds: float
    """Since the request was sent."""


class Connection:
    """One connection to a server, from `async with` to its end."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answered:
        """Send one request, and read its answer.

        Raises:
            ConnectionError, asyncio.IncompleteReadError: The server has gone.
        """
        lines = [f"{method} {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        began = time.perf_counter()
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        at = lower.find(_LENGTH)
        length = int(lower[at + len(_LENGTH) : lower.index(b"\r\n", at)]) if at >= 0 else 0
        answer = await self._reader.readexactly(length)
        return Answered(int(head[9:12]), answer, time.perf_counter() - began)

    async def lines(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Lines of an answer that does not end, without those of its head and its chunks' lengths.

        Raises:
            ConnectionError: The server has refused, or gone.
        """
        rows = [f"GET {path} HTTP/1.1", "host: bench", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*rows, "", ""]).encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if int(head[9:12]) != _OK:
            raise ConnectionError(head.decode())
        while line := await self._reader.readline():
            if not line.endswith(b"\r\n"):
                yield line.rstrip(b"\n")
