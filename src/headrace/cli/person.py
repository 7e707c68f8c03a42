"""Who types."""

from __future__ import annotations

import getpass
import socket


def who() -> str:
    """User and host, for audits and logs."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
