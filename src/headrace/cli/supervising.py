"""`supervise`: runs `headrace.actors.supervise` until a signal comes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

from headrace.actors.supervise import Supervise
from headrace.cli.exits import ExitCode, UsageError
from headrace.logs import configure_logs
from headrace.settings import Loaded

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(loaded: Loaded, cluster: str, heartbeat: Path | None) -> ExitCode:
    """Look after what was deployed to a cluster, until a signal comes.

    Raises:
        UsageError: An address is missing.
    """
    settings = loaded.settings
    missing = [] if settings.ray_address else ["--address HOST:6379"]
    missing += [] if settings.redis_url else ["--redis redis://HOST:6379/0"]
    if missing:
        raise UsageError(f"Addresses are missing. Type: headrace supervise {' '.join(missing)}")
    if loaded.origin(("log_level",)).kind == "default":
        configure_logs("info", settings.log_format)  # what a service does belongs into its journal
    asyncio.run(_run(Supervise(settings.ray_address, settings.redis_url, cluster, heartbeat)))
    return ExitCode.OK


async def _run(supervise: Supervise) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    await supervise.run(stopped)
