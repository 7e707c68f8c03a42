"""The supervisor's line to the store: term and deployment at the start, then leases in and status out.

Runs on a thread of its own, so that a store that is away never holds up the supervisor.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeAlias

import structlog

from headrace.actors.changing import begin
from headrace.actors.deployments import get_deployment, is_stopped
from headrace.actors.pauses import get_pauses
from headrace.actors.roster import Roster
from headrace.actors.spec import ClusterStatus, Deployment, Pause
from headrace.actors.store_registry import Registry
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import term_key

log = structlog.get_logger(__name__)

PERIOD: Final = 0.5
"""Seconds between two readings of the leases, and two status documents."""
PROCESS: Final = "supervisor"
"""Name under which the supervisor leaves its status document."""
Emit: TypeAlias = Callable[[Callable[[Roster, float], None]], None]
Bearings: TypeAlias = tuple[int, Deployment, tuple[Pause, ...]]
"""The supervisor's term, what is to run, and what of it is paused."""


class StoreLink:
    """Reads and writes for the supervisor what is no partition's.

    Args:
        redis_url: The store.
        workflow: Whose supervisor it is.
        emit: Takes events for the supervisor's thread.
        on_stop: Called, again and again, once a deployed workflow is not to run any more.
    """

    def __init__(self, redis_url: str, workflow: str, emit: Emit, on_stop: Callable[[], None]) -> None:
        self._url = redis_url
        self._workflow = workflow
        self._emit = emit
        self._on_stop = on_stop
        self._bearings: Future[Bearings] = Future()
        self._names: Sequence[str] = ()
        self._document: ClusterStatus | None = None
        self._stopped = threading.Event()

    def start(self) -> Bearings:
        """A new term, and what is to run. Waits for the store as long as it takes."""
        threading.Thread(target=lambda: asyncio.run(self._run()), name="headrace-store-link", daemon=True).start()
        return self._bearings.result()

    def update(self, names: Sequence[str], document: ClusterStatus) -> None:
        """Whose leases to read, and the status to leave, from now on."""
        self._names, self._document = names, document

    def stop(self) -> None:
        """No more reading and writing; idempotent."""
        self._stopped.set()

    async def _run(self) -> None:
        registry: Registry | None = None
        while not self._stopped.is_set():
            try:
                if registry is None:
                    registry = Registry(self._url, connections=2)
                if not self._bearings.done():
                    await self._take_bearings(registry)
                else:
                    await self._exchange(registry)
            except HeadraceError as error:
                sentence = str(error)
                log.warning("store_unreachable", reason=sentence)
                now = time.monotonic()
                self._emit(lambda roster, _, sentence=sentence, now=now: roster.store_away(sentence, now))  # type: ignore[misc]
            await asyncio.sleep(PERIOD)
        if registry is not None:
            await registry.close()

    async def _take_bearings(self, registry: Registry) -> None:
        await registry.check_format(self._workflow)
        deployment = await get_deployment(registry, self._workflow)
        if deployment is None:
            log.warning("deployment_missing", workflow=self._workflow)
            return
        term = await registry.next_term(self._workflow)
        # Heads of partitions have it next; in a cluster they lie at other nodes than its counter.
        await registry.confirm(term_key(self._workflow), Durability.parse(deployment.durability))
        self._bearings.set_result((term, deployment, await get_pauses(registry, self._workflow)))

    async def _exchange(self, registry: Registry) -> None:
        names = self._names
        leases = await registry.leases(names)
        held = frozenset(name for name, holder in leases.items() if holder is not None)
        self._emit(lambda roster, now: roster.leases(held, now))
        if self._document is not None:
            await registry.put_status(self._workflow, PROCESS, self._document)
        deployment = await get_deployment(registry, self._workflow)
        if deployment is None:
            return  # it is being removed
        self._emit(lambda roster, now: begin(roster, deployment, now))
        pauses = await get_pauses(registry, self._workflow)
        self._emit(lambda roster, _: setattr(roster, "pauses", pauses))
        if deployment.cluster and await is_stopped(registry, self._workflow):
            self._on_stop()  # `run` and `dev` end by themselves what they have started
