"""How addresses of callbacks are written: what is wrong with one is said where it is given, whoever gives it."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

LONGEST: Final = 2048
"""Characters of an address."""
_PORTS: Final = {"https": 443, "http": 80}
_SHORTENED: Final = 100


class Target(NamedTuple):
    """Where an address leads."""

    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """What its limits go by."""
        return f"{self.host}:{self.port}"


def target_of(url: str) -> Target:
    """Where an address leads, by how it is written: `http` or `https`, a host, no user.

    Raises:
        ValueError: It is none; says why.

    Examples:
        >>> target_of("https://shop.example/hooks").name
        'shop.example:443'
    """
    if len(url) > LONGEST or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"a callback's address has at most {LONGEST} characters, all of them visible ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{shortened(url)} is no address ({error})") from None
    if parts.scheme not in _PORTS:
        raise ValueError(f"{shortened(url)} does not begin with https://")
    if not parts.hostname or parts.username is not None or parts.password is not None or port == 0:
        raise ValueError(f"{shortened(url)} names no host, or a user, or port 0")
    return Target(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def shortened(text: str) -> str:
    """A text as people are shown it."""
    return repr(text if len(text) <= _SHORTENED else f"{text[:_SHORTENED]}...")
