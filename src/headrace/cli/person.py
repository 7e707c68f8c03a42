"""Who types a command: for what is written down of what people do."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """User and machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def process() -> str:
    """The same, with this process."""
    return f"{who()}, process {os.getpid()}"
