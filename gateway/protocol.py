"""HTTP/1.1 as it is read from a socket: what is no request is answered by a problem document, as all that is refused.

The server knows no limit of its own for heads of requests: here they have one, of size and of time, so that those who
send them without end, or byte by byte, hold neither memory nor connections. And who is answered while it still sends
gets its answer: if a connection is closed over which more comes, it is reset, and the answer is lost (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import SecurityError
from websockets.http11 import Response

from headrace.gateway.problems import PROBLEM_JSON, ProblemError, problem_of

HEAD_BYTES: Final = 64 << 10
"""Bytes of a head that comes in parts; what a socket gives at once may be 256 KiB more."""
HEAD_SECONDS: Final = 10.0
"""Time for a head to come, from its first byte; and for the first byte of a connection."""
LINGER_SECONDS: Final = 5.0
"""Time for who is answered to read that, and to stop sending."""
_ONCE: Final = frozenset({b"host", b"content-type", b"content-encoding", b"last-event-id"})
"""Headers that have one value: of two, nobody could say which one counts (RFC 9110, 5.3)."""


class _Transport:
    """That of a connection, but when it is to be closed, the protocol says how.

    Args:
        transport: What carries the bytes.
        end: Closes.
    """

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self.carrier = transport
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.carrier, name)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _carrier: asyncio.Transport
    _in_head = False
    _is_lingering = False
    _has_ended = False
    _head_size = 0
    _deadline: asyncio.TimerHandle | None = None
    _reason = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of asyncio."""
        super().connection_made(transport)
        self._carrier = transport
        self.transport = _Transport(transport, self._end)  # type: ignore[assignment]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._head_has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if self._is_lingering:
            return
        self._has_ended = False
        super().data_received(data)
        if not self._in_head or self._is_lingering or self._carrier.is_closing():
            return
        if not self._has_ended:  # else most of it may be requests before this one: 1,000 fit into what is read at once
            self._head_size += len(data)
        if self._head_size > HEAD_BYTES:
            self._refuse(ProblemError("head_too_large", f"line and headers have more than {HEAD_BYTES} bytes"))
        elif self._deadline is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Of the parser."""
        super().on_message_begin()
        self._in_head, self._head_size = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser. What comes behind the body is none of the request's headers any more."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Of the parser."""
        self._in_head = False
        self._head_has_come()
        names = [name for name, _ in self.headers if name in _ONCE]
        if len(names) != len(set(names)):
            repeated = next(name for name in names if names.count(name) > 1)
            raise self._unreadable(f"the header {repeated.decode().title()} comes more than once")
        if b"host" not in names and self.parser is not None and self.parser.get_http_version() == "1.1":
            raise self._unreadable("the header Host is missing")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Of the parser."""
        self._has_ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Of the server: it has answered."""
        if self._is_lingering:
            return
        super().on_response_complete()
        if self._in_head:
            self._head_has_come()
            self._wait_for_head()  # what comes behind this request was not read meanwhile: it is not slow
        elif self.cycle.more_body and self._deadline is None:
            self._wait_for_head()  # the rest of the body is passed over, but not for ever

    def send_400_response(self, msg: str) -> None:
        """Of the server: it can't read what came."""
        self._refuse(ProblemError("bad_request", self._reason or "what came is no request of HTTP/1.1"))

    def _unreadable(self, reason: str) -> ValueError:
        self._reason = reason
        return ValueError(reason)

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._is_too_slow)

    def _head_has_come(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_too_slow(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for_head()  # one before it is being answered
        elif self._in_head:
            self._refuse(ProblemError("head_too_slow", f"it has not come within {HEAD_SECONDS:g} s"))
        else:
            self._carrier.close()

    def _refuse(self, problem: ProblemError) -> None:
        """Answer, and end the connection."""
        self._head_has_come()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            self._carrier.close()  # nobody could tell this answer from that to the request before it
            return
        self._carrier.write(_written(problem))
        self._linger()

    def _end(self) -> None:
        """Close the connection; what the caller still sends is passed over until it has its answer."""
        if self.cycle is not None and self.cycle.more_body and self.cycle.response_complete:
            self._linger()
        else:
            self._carrier.close()

    def _linger(self) -> None:
        if self._is_lingering or self._carrier.is_closing() or not self._carrier.can_write_eof():
            self._carrier.close()
            return
        self._head_has_come()
        self._is_lingering = True
        self._carrier.write_eof()
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self._carrier.close)


def _written(problem: ProblemError) -> bytes:
    """The last answer on a connection, as it goes over the wire."""
    answer = problem.response("")
    lines = [f"HTTP/1.1 {problem.status.value} {problem.status.phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b"connection: close", b"", bytes(answer.body)])


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket; a handshake that is none is answered by a problem document."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        reject = self.conn.reject
        self.conn.reject = lambda status, text: _as_problem(reject, status, text)  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        """Of asyncio. The server forgets those whose handshake its library can't read: nobody would answer them."""
        super().data_received(data)
        error = self.conn.handshake_exc
        if error is None or self.handshake_initiated or self.transport.is_closing():
            return
        is_long = isinstance(error, SecurityError) or isinstance(error.__cause__, SecurityError)
        code = "head_too_large" if is_long else "bad_request"
        problem = ProblemError(code, f"it is no handshake for a session: {error}")
        self.handshake_complete = True
        self.transport.write(_written(problem))
        self.transport.close()


def _as_problem(reject: Callable[[int, str], Response], status: int, text: str) -> Response:
    answer = reject(status, text)
    found = problem_of(HTTPException(HTTPStatus(status).value, text))
    body = bytes(found.response("").body)
    kept = [(name, value) for name, value in answer.headers.raw_items() if not name.lower().startswith("content-")]
    answer.headers = Headers([*kept, ("Content-Type", PROBLEM_JSON), ("Content-Length", str(len(body)))])
    answer.body = body
    return answer
