"""What both clients know of httpx: options of a request, and what its answers and errors mean."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import httpx

from headrace.client.exchange import Ask, Got, Lost

DEFAULT_ADDRESS: Final = "http://127.0.0.1:8080"
TIMEOUT: Final = timedelta(seconds=10)
READING: Final = httpx.Timeout(10.0, read=60.0)
"""Of a stream: gateways say something every now and then; where nothing comes for this long, nobody is there."""


def new_key() -> str:
    """An Idempotency-Key that nobody else has."""
    return uuid.uuid4().hex


def all_headers(token: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers of each request."""
    return {**(headers or {}), **({} if token is None else {"Authorization": f"Bearer {token}"})}


def options(ask: Ask, headers: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """How httpx is to make a request."""
    return {
        "params": dict(ask.params) or None,
        "headers": {**headers, **ask.headers},
        "content": ask.body,
        "timeout": httpx.Timeout(timeout, read=timeout + ask.wait),
    }


def got(response: httpx.Response) -> Got:
    """An answer that was read."""
    return Got(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )


def content_type(response: httpx.Response) -> str:
    """What an answer says that it is."""
    return str(response.headers.get("content-type", ""))


def lost(url: str, error: httpx.TransportError) -> Lost:
    """No answer, and why."""
    return Lost(url, str(error) or type(error).__name__)
