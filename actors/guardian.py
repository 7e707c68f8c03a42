"""Who looks after the supervisor: a worker ends one that gives no sign of life, and Ray starts it again.

A supervisor that dies is restarted by Ray at once; one that is suspended or stuck Ray takes for healthy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import ray
import structlog
from ray.exceptions import RayError

from headrace.actors.spec import NAMESPACE, supervisor_name
from headrace.sources.connection import address_of, store_errors
from headrace.sources.store_clients import connect_thread
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import lease_key

log = structlog.get_logger(__name__)

PERIOD: Final = 1.0
"""Seconds between two looks."""
PATIENCE: Final = 5.0
"""Seconds without a lease: longer than Ray takes to restart one that died."""
BETWEEN_WORKERS: Final = 3.0
"""Each worker waits so much longer than the one before, so that one of them acts."""


class Guardian:
    """Looks at the supervisor's lease, on a thread of its own.

    Args:
        redis_url: The store.
        workflow: Whose supervisor.
        rank: Index of this worker.
        end: For tests; by default ends the actor and lets Ray restart it.
    """

    def __init__(self, redis_url: str, workflow: str, rank: int, *, end: Callable[[str], None] | None = None) -> None:
        self._name = supervisor_name(workflow)
        self._patience = PATIENCE + rank * BETWEEN_WORKERS
        self._end = end or _end
        self._seen = time.monotonic()
        self._url, self._address = redis_url, address_of(redis_url)
        self._client: Any = None

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="headrace-guardian", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.look(time.monotonic())
            time.sleep(PERIOD)

    def look(self, now: float) -> None:
        """One look: a store that does not answer says nothing about the supervisor."""
        try:
            with store_errors(self._address):
                if self._client is None:
                    self._client = connect_thread(self._url, answer_within=PERIOD)
                held = self._client.get(lease_key(self._name)) is not None
        except HeadraceError as error:
            log.debug("guardian_blind", reason=str(error))
            self._seen = now
            return
        if held:
            self._seen = now
        elif now - self._seen > self._patience:
            log.error("supervisor_silent", supervisor=self._name, seconds=round(now - self._seen, 1))
            self._seen = now
            self._end(self._name)


def _end(name: str) -> None:
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)
    except (ValueError, RayError) as error:
        log.warning("supervisor_not_ended", supervisor=name, reason=str(error))
