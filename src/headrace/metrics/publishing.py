"""Leaves what a process counts in the store, every two seconds, on a thread of its own."""

from __future__ import annotations

import threading
from typing import Any, Final

import msgspec
import structlog
from prometheus_client.registry import Collector

from headrace.metrics.families import KEEP_MS, families_of
from headrace.sources.connection import ANSWER_WITHIN, address_of, store_errors
from headrace.sources.store_clients import connect_thread
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import metrics_key

log = structlog.get_logger(__name__)

PERIOD: Final = 2.0
"""Seconds between two times that a process leaves its metrics."""


class Publisher:
    """Publishes one registry until it is stopped; a store that is away is no reason to count less.

    Args:
        redis_url: Address of the store.
        workflow: Name of the workflow.
        process: `worker/0`, `node/1/0`, `supervisor`: whose metrics they are.
        registry: What is counted; read from the publisher's thread.
    """

    def __init__(self, redis_url: str, workflow: str, process: str, registry: Collector) -> None:
        self._address = address_of(redis_url)
        self._key = metrics_key(workflow, process)
        self._registry = registry
        self._url = redis_url
        self._client: Any = None
        """Made at the first need: an address that leads nowhere yet must not end the process."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-metrics", daemon=True)
        self._away = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No more; idempotent."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            try:
                self._leave(msgspec.msgpack.encode(families_of(self._registry)))
            except HeadraceError as error:
                if not self._away:
                    log.warning("metrics_not_left", store=self._address, reason=str(error))
                self._away = True
            except Exception:  # a collector's mistake: numbers that are missing must not end the process
                log.exception("metrics_failed")
            else:
                self._away = False
        if self._client is not None:
            self._client.close()

    def _leave(self, blob: bytes) -> None:
        with store_errors(self._address):
            if self._client is None:
                self._client = connect_thread(self._url, answer_within=ANSWER_WITHIN)
            client = self._client
            with effect(Effect.STATUS):
                client.set(self._key, blob, px=KEEP_MS)
