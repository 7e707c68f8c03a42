"""Bodies of requests: read no further than allowed, in time, and decoded as JSON that is not nested too deeply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import Request

from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings


async def read_body(request: Request, settings: GatewaySettings, most: int) -> bytes:
    """The whole body.

    Args:
        request: The caller's.
        settings: Limits.
        most: Bytes that it may have.

    Raises:
        ProblemError: It is too large, or compressed, or has not come in time.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProblemError("unsupported_encoding", f"its Content-Encoding is {encoding[:100]!r}")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > most:  # noqa: PLR2004  digits of 2 ** 63
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise ProblemError(
            "body_too_slow",
            f"it has not come within {settings.body_seconds:g} s",
            headers={"Connection": "close"},
        ) from None
    return b"".join(parts)


def _too_large(most: int) -> ProblemError:
    return ProblemError("body_too_large", f"the body has more than {most} bytes", headers={"Connection": "close"})


def decode_json(body: bytes, settings: GatewaySettings) -> Any:
    """The data of a body.

    Raises:
        ProblemError: `invalid_json`, `too_deep`.
    """
    try:
        data = msgspec.json.decode(body)
    except RecursionError as error:
        raise too_deep(settings.depth) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError("invalid_json", f"the body is no JSON: {error}") from error
    # Counting is quick; only what could be too deep is walked through.
    if body.count(b"[") + body.count(b"{") > settings.depth and _is_deeper(data, settings.depth):
        raise too_deep(settings.depth)
    return data


def too_deep(depth: int) -> ProblemError:
    """The problem of data that have more levels than this."""
    return ProblemError("too_deep", f"it has more than {depth} levels within each other")


def _is_deeper(data: Any, depth: int) -> bool:
    level: list[Any] = [data]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return any(isinstance(each, (dict, list)) for each in level)


def _inside(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        yield from data.values()
    elif isinstance(data, list):
        yield from data


def field_of(data: Any, path: str) -> Any:
    """What data have at a path of fields (`order.id`); None where there is nothing."""
    for step in path.split("."):
        data = data.get(step) if isinstance(data, dict) else None
    return data


def key_in(data: Any, path: str) -> str | None:
    """The key that data have at a path of fields; None where there is none that a key could be."""
    found = field_of(data, path)
    if isinstance(found, bool) or not isinstance(found, (str, int)) or found == "":
        return None
    return str(found)
