"""Leases: a process says in the store, every few seconds, that it lives; who looks there sees when it stopped.

A thread of its own renews them, so that a busy event loop does not look dead. They lapse by the store's
clock, not by any host's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

import structlog

from headrace.sources.connection import address_of, store_errors
from headrace.sources.store_clients import connect_thread
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import lease_key

_log = structlog.get_logger(__name__)

DEFAULT_TTL: Final = timedelta(seconds=6)

_RENEW: Final = """#!lua flags=allow-oom
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and ARGV[3] == '0' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class LeaseKeeper:
    """Holds one lease for this process, from `start` to `stop`.

    Args:
        url: Address of the store.
        name: What is held: `<workflow>/worker/0`, `<workflow>/supervisor`.
        incarnation: Token of this process, new at each start; the lease's value.
        ttl: How long it lasts without being renewed; renewed three times as often.
        take_over: Take it from another holder at start (where someone else has made sure of who is to hold it).
        on_lost: Called from the keeper's thread, once, when another incarnation has it.
    """

    def __init__(
        self,
        url: str,
        name: str,
        incarnation: str,
        *,
        ttl: timedelta = DEFAULT_TTL,
        take_over: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self._address = address_of(url)
        self._ttl = ttl.total_seconds()
        self._take_over = take_over
        self._on_lost = on_lost
        self._renewed = float("-inf")
        self._lost = False
        self._away = False
        self._wake = threading.Event()
        self._stopped = False
        self._url = url
        self._client: Any = None
        """Made at the first need: an address that leads nowhere yet must not end the process."""
        self._thread = threading.Thread(target=self._keep, name=f"lease-{name}", daemon=True)

    @property
    def held(self) -> bool:
        """Was it renewed within its time, and has nobody else it? False while the store is away for longer."""
        return not self._lost and time.monotonic() - self._renewed < self._ttl

    @property
    def lost(self) -> bool:
        """Another incarnation has it: this process is not wanted any more."""
        return self._lost

    def start(self) -> Self:
        """Take the lease as soon as the store answers, and renew it from then on. Does not wait."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop renewing, and give the lease back if it is still ours; idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=self._ttl)
        try:
            self._write(_RELEASE, self.incarnation)
        except HeadraceError as error:
            _log.info("lease_not_given_back", lease=self.name, reason=str(error))
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _keep(self) -> None:
        while not self._stopped:
            if not self._renew():
                return
            self._wake.wait(self._ttl / 3)

    def _renew(self) -> bool:
        """Renew once; False when the lease is lost for good."""
        asked = time.monotonic()
        try:
            mine = self._write(_RENEW, self.incarnation, round(self._ttl * 1000), int(self._take_over))
        except HeadraceError as error:
            if not self._away:
                _log.warning("lease_not_renewed", lease=self.name, store=self._address, reason=str(error))
            self._away = True
            return True
        if mine:
            self._away = False
            self._take_over = False
            self._renewed = asked
            return True
        if self._renewed == float("-inf"):
            # Never held: the one before may just not have lapsed yet.
            return True
        self._lost = True
        _log.warning("lease_lost", lease=self.name, incarnation=self.incarnation)
        if self._on_lost is not None:
            self._on_lost()
        return False

    def _write(self, script: str, *arguments: str | int) -> bool:
        with store_errors(self._address):
            if self._client is None:
                self._client = connect_thread(self._url, answer_within=max(0.2, self._ttl / 3))
            with effect(Effect.LEASE):
                return bool(self._client.execute_command("EVAL", script, 1, lease_key(self.name), *arguments))
