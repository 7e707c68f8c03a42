"""Server-sent events: how they are written, and answers made of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from fastapi.responses import StreamingResponse

from headrace.gateway.problems import ProblemError

EVENT_STREAM: Final = "text/event-stream"
RETRY: Final = b"retry: 1000\n\n"
"""What comes first: how many milliseconds a client waits until it connects again."""
ALIVE: Final = b":\n\n"
"""A comment, so that proxies and clients see that there still is somebody."""
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_ID: Final = re.compile(r"\d{1,20}-\d{1,20}|end-\d{1,20}")


def sse_event(kind: str, data: bytes, id: str = "") -> bytes:
    r"""One event.

    Examples:
        >>> sse_event("value", b'"hello"', "7-0")
        b'event: value\nid: 7-0\ndata: "hello"\n\n'
    """
    lines = [b"event: " + kind.encode()]
    if id:
        lines.append(b"id: " + id.encode())
    lines += [b"data: " + line for line in data.splitlines() or [b""]]
    return b"\n".join(lines) + b"\n\n"


def sse_response(events: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> StreamingResponse:
    """An answer that goes on as long as events come."""
    return StreamingResponse(events, headers={**HEADERS, **(headers or {})}, media_type=EVENT_STREAM)


def wants_events(request: Request) -> bool:
    """Whether the caller asks for events rather than for one document."""
    asked = request.headers.get("accept", "").lower().split(",")
    return any(row.partition(";")[0].strip() == EVENT_STREAM for row in asked)


def last_event_id(request: Request) -> str | None:
    """Where the caller goes on; None: it begins.

    Raises:
        ProblemError: `invalid_cursor`.
    """
    text = request.headers.get("last-event-id", "").strip()
    return checked_event_id(text) if text else None


def checked_event_id(text: str) -> str:
    """The id of an event of a stream.

    Raises:
        ProblemError: `invalid_cursor`.
    """
    if not _ID.fullmatch(text):
        raise ProblemError("invalid_cursor", f"Last-Event-ID {text[:50]!r} is none of a stream")
    return text
