"""Pages of other origins in browsers (CORS): which may ask, and what of answers they may read."""

from __future__ import annotations

import re
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+")
_READABLE: Final = (
    "Location", "Content-Location", "ETag", "Retry-After", "Preference-Applied", "Idempotent-Replayed",
    "Headrace-Status", "Headrace-Durability", "RateLimit", "RateLimit-Policy", "WWW-Authenticate",
)  # fmt: skip
"""Headers that a page could not see otherwise."""


def origins_of(text: str) -> list[str]:
    """The origins in a setting, which are separated by spaces or commas.

    Raises:
        ValueError: One is none: it has a path, or no scheme.

    Examples:
        >>> origins_of("http://localhost:8000, https://chat.example")
        ['http://localhost:8000', 'https://chat.example']
    """
    found = text.replace(",", " ").split()
    for origin in found:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin: write https://host or http://host:port, without a path, or *")
    return found


def is_welcome(origin: str, host: str, text: str) -> bool:
    """Whether pages of an origin may open sessions: browsers ask nobody before they do, and so the server has to look.

    Args:
        origin: As the browser says it.
        host: Where it came, host and port: its own pages may.
        text: The setting.

    Examples:
        >>> is_welcome("https://chat.example", "chat.example", "")
        True
        >>> is_welcome("https://evil.example", "chat.example", "https://other.example")
        False
    """
    origins = origins_of(text)
    return ANY in origins or origin in origins or (bool(host) and origin.partition("://")[2].lower() == host.lower())


def add_cors(app: FastAPI, text: str) -> None:
    """Let pages of these origins ask; without any, browsers let only pages of the gateway's own origin."""
    if origins := origins_of(text):
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"],
            expose_headers=_READABLE, max_age=600,
        )  # fmt: skip
