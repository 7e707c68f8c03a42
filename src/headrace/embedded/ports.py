"""Free loopback ports that stay free."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_FIRST = 15_000
_USUAL_FIRST_EPHEMERAL = 32_768
_TRIES = 200


def free_port() -> int:
    """A port on the loopback interface that nobody listens on.

    It lies below the range from which the system takes ports for outgoing connections. A port of that
    range could be taken while its server restarts, or a client could even connect to itself: on Linux a
    client that keeps trying a dead port of that range sooner or later gets the same port on its own side.

    Raises:
        OSError: None was found.
    """
    last = _first_ephemeral_port() - 1
    choose = random.SystemRandom()
    for _ in range(_TRIES):
        port = choose.randint(min(_FIRST, last), last)
        if _is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {last}")


def _first_ephemeral_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):  # no Linux
        return _USUAL_FIRST_EPHEMERAL
    return first if first > _FIRST else _USUAL_FIRST_EPHEMERAL


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
