"""How `headrace stop` reaches the process that runs a workflow: by a request in the store.

The Ray of `dev` and `run` belongs to their process alone, so nobody else can stop what runs in it. A request
in the store reaches it from any machine and needs no process numbers, which may be used again. It fades
after a minute, so one that nobody takes can't stop a later run; whoever takes it removes it when all has stopped.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

import structlog

from headrace.actors.spec import supervisor_name
from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError

log = structlog.get_logger(__name__)

PERIOD: Final = 0.5
"""Seconds between two looks for a request."""
_FADES_MS: Final = 60_000


def stop_key(workflow: str) -> str:
    """Where a request to stop lies; removed with the workflow."""
    return f"hr:{{{workflow}}}:stop"


async def is_running(registry: Registry, workflow: str) -> bool:
    """Whether a supervisor of the workflow holds its lease."""
    name = supervisor_name(workflow)
    return (await registry.leases([name]))[name] is not None


async def ask_to_stop(registry: Registry, workflow: str) -> None:
    """Leave a request."""
    with store_errors(registry.address), effect(Effect.STATUS):
        await registry.client.set(stop_key(workflow), "1", px=_FADES_MS)


async def asked_to_stop(registry: Registry, workflow: str) -> bool:
    """Whether there is a request."""
    with store_errors(registry.address):
        return bool(await registry.client.exists(stop_key(workflow)))


async def clear_stop(registry: Registry, workflow: str) -> None:
    """Take the request away: all has stopped, or a new run begins."""
    with store_errors(registry.address), effect(Effect.STATUS):
        await registry.client.delete(stop_key(workflow))


class StopWatch:
    """Looks for a request on a thread of its own: a store that is away must not hold up the display.

    Args:
        redis_url: The store.
        workflow: Whose requests.
        asked: Set when there is one.
    """

    def __init__(self, redis_url: str, workflow: str, asked: threading.Event) -> None:
        self._url = redis_url
        self._workflow = workflow
        self._asked = asked
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()), name="headrace-stops", daemon=True)

    def __enter__(self) -> StopWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5.0)

    async def _look(self) -> None:
        registry = Registry(self._url, connections=1)
        while not self._ended.is_set():
            try:
                if await asked_to_stop(registry, self._workflow):
                    self._asked.set()
            except HeadraceError as error:
                log.debug("stop_watch_blind", reason=str(error))  # the workers name it as a problem
            await asyncio.sleep(PERIOD)
        await registry.close()
