"""What the routes of one gateway process share: the store, the bridge, what workflows are like, and limits."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Final, TypeAlias

import structlog
from fastapi import Depends, Request

from headrace.actors.store import Store
from headrace.actors.store_followed import FollowedStreams
from headrace.actors.store_requests import RequestStore
from headrace.actors.store_values import ValueReader
from headrace.gateway.again import read_again
from headrace.gateway.bridge import Bridge
from headrace.gateway.callbacks import Callbacks
from headrace.gateway.fairness import WaitingOfTenants
from headrace.gateway.following import Follower
from headrace.gateway.listening import Listener
from headrace.gateway.meter import GatewayMeter
from headrace.gateway.open_sessions import OpenSessions
from headrace.gateway.preferences import Preference, preference_of
from headrace.gateway.principal import demand, tenant_now
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import DEFAULTS, GatewaySettings
from headrace.gateway.tickets import Tickets
from headrace.gateway.tracing import GatewayTraces
from headrace.gateway.validation import FieldErrors
from headrace.gateway.value_watch import ValueWatcher
from headrace.gateway.watching import RunWatcher
from headrace.tracing.options import Tracing
from headrace.workflows.durability import Durability
from headrace.workflows.store import SourceDescriptor, StoreError, StoreUnavailable, WorkflowDescriptor
from headrace.workflows.tenants import DEFAULT_TENANT

_log = structlog.get_logger(__name__)

_DESCRIPTOR_TTL: Final = 2.0
"""Seconds that a workflow's descriptor is taken as it was read."""
_CONNECTIONS: Final = 8
"""To the store, and as many lines, beside two that listen: what is asked takes less than a millisecond, and events go
together."""
_MOST_KNOWN: Final = 1000
_LONGEST_NAME: Final = 200
PATIENCE: Final = "headrace_patience"
"""Of a request's scope: seconds that it waits where the caller does not say, in place of those of the settings."""


def _unknown(name: str) -> ProblemError:
    return ProblemError("unknown_workflow", f"there is no workflow {name[:_LONGEST_NAME]!r}")


class _Known:
    """A workflow as it was read, and checks of the data of its sources."""

    def __init__(self, descriptor: WorkflowDescriptor) -> None:
        self.descriptor = descriptor
        self.read = time.monotonic()
        self.checks: dict[str, FieldErrors] = {}


class Gateway:
    """One gateway process.

    Args:
        redis_url: Address of the store.
        settings: Limits.
        traces: Where spans go; see `create_app`.
    """

    def __init__(self, redis_url: str, settings: GatewaySettings = DEFAULTS, traces: Tracing | None = None) -> None:
        self.settings = settings
        self.traces = GatewayTraces(traces)
        self.store = RequestStore(redis_url, connections=_CONNECTIONS)
        self.bridge = Bridge(redis_url, self.store, remembered=settings.idempotency_seconds)
        self.watcher = RunWatcher(self.store)
        self.listener = Listener(redis_url)
        self.value_reader = ValueReader(self.store)
        self.values = ValueWatcher(self.value_reader, self.listener)
        self.follower = Follower(FollowedStreams(self.store), self.listener)
        self.tickets = Tickets(self.store)
        self.sessions = OpenSessions()
        self.tenants = WaitingOfTenants(settings.tenant_waiting)
        self.callbacks = Callbacks(self.store, settings)
        self.meter = GatewayMeter(lambda: self.waiting)
        self.leaving = False
        """It is about to end, and nothing else has changed yet."""
        self.stopping = False
        """It takes what comes, but nobody waits any more."""
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, asyncio.Task[_Known | None]] = {}

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        here = self.values.waiting + self.follower.following + self.sessions.count
        return self.bridge.waiting + self.watcher.waiting + here

    async def open(self) -> None:
        """Connect. A store that is away is no reason not to start; one that is unsuitable is."""
        try:
            await self.store.open()
        except StoreUnavailable as problem:
            _log.warning("store_unreachable", reason=str(problem))
        await self.bridge.open()
        await self.callbacks.open()
        self.traces.open()

    async def close(self) -> None:
        """Disconnect."""
        self.stop_waiting()
        await self.watcher.close()
        await self.listener.close()
        await self.callbacks.close()
        await self.bridge.close()
        await self.store.close()
        await self.traces.close()

    def leave(self) -> None:
        """Say that this process is about to end."""
        self.leaving = True

    def stop_waiting(self) -> None:
        """Let all go who wait, with what there is: this process is about to end."""
        self.leaving = self.stopping = True
        self.bridge.stop_waiting()
        self.watcher.stop_waiting()
        self.values.stop_waiting()
        self.follower.stop_waiting()
        self.sessions.stop_waiting()

    async def workflow(self, name: str) -> WorkflowDescriptor:
        """The descriptor of a workflow, for who asks.

        Raises:
            ProblemError: `forbidden`: they may not do this to it. `unknown_workflow`: nobody has started one of that
                name; or it has one run only, which is of the tenant `default`.
        """
        demand(workflow=name)
        found = (await self._find(name)).descriptor
        if not found.keyed and tenant_now() != DEFAULT_TENANT:
            raise _unknown(name)
        return found

    async def checks(self, workflow: WorkflowDescriptor, source: SourceDescriptor) -> FieldErrors:
        """Checks the data of one source."""
        known = await self._find(workflow.name)
        if source.name not in known.checks:
            known.checks[source.name] = FieldErrors(source)
        return known.checks[source.name]

    async def _find(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is not None and time.monotonic() - known.read < _DESCRIPTOR_TTL:
            return known
        reading = self._reading.get(name)
        if reading is None:
            # One reads for all who ask meanwhile: thousands would want a connection each.
            self._reading[name] = reading = asyncio.create_task(self._read(name), name="workflow-read")
            reading.add_done_callback(partial(self._has_read, name))
        try:
            found = await asyncio.shield(reading)
        except StoreError as error:
            raise copy.copy(error) from None
        if found is None:
            raise _unknown(name)
        return found

    def _has_read(self, name: str, reading: asyncio.Task[_Known | None]) -> None:
        del self._reading[name]
        if not reading.cancelled():
            reading.exception()  # those who asked may have gone

    async def _read(self, name: str) -> _Known | None:
        found = await read_again(partial(self.store.workflow, name)) if len(name) <= _LONGEST_NAME else None
        known = self._known.get(name)
        if found is None:
            self._known.pop(name, None)
            return None
        if known is not None and known.descriptor == found:
            known.read = time.monotonic()
            return known
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[name] = _Known(found)
        return self._known[name]

    def preference(self, request: Request) -> Preference:
        """How long a caller wants to wait, and may.

        Raises:
            ProblemError: `too_many_waiting`, `quota_exceeded`.
        """
        settings, default = self.settings, request.scope.get(PATIENCE, self.settings.wait_seconds)
        preference = preference_of(
            request.headers.getlist("prefer"), default=default, longest=max(default, settings.longest_wait_seconds)
        )
        if preference.wait:
            self.admit_one()
        return preference

    def admit_one(self) -> None:
        """Make sure that one more may wait, of who asks too; it counts until the request is over.

        Raises:
            ProblemError: `too_many_waiting`, `quota_exceeded`.
        """
        self.admit_any()
        self.tenants.hold(tenant_now())

    def admit_any(self) -> None:
        """Make sure that one more may wait, whoever it is.

        Raises:
            ProblemError: `too_many_waiting`.
        """
        if self.waiting >= self.settings.waiting:
            raise ProblemError("too_many_waiting", f"{self.settings.waiting} callers wait in this process")

    @asynccontextmanager
    async def partitions(self, workflow: WorkflowDescriptor) -> AsyncIterator[Store]:
        """A way to all partitions of a workflow, for what is seldom asked."""
        level = Durability.parse(workflow.durability)
        async with Store(self.store.url, workflow.name, connections=2, durability=level) as store:
            yield store


async def _gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


OfProcess: TypeAlias = Annotated[Gateway, Depends(_gateway_of)]
"""Parameter of a route: the gateway of this process."""


def request_source(workflow: WorkflowDescriptor, name: str | None = None) -> SourceDescriptor:
    """The source that takes requests: the one of that name, else the first.

    Raises:
        ProblemError: `no_requests`.
    """
    found = [source for source in workflow.sources if source.kind == "requests"]
    for source in found:
        if name in (None, source.name):
            return source
    there = f"those it has: {', '.join(source.name for source in found)}" if found else "it takes no requests"
    which = "RequestSource" if name is None else f"RequestSource {name!r}"
    raise ProblemError("no_requests", f"workflow {workflow.name!r} has no {which}: {there}")


def message_source(workflow: WorkflowDescriptor, name: str) -> SourceDescriptor:
    """The source of messages of this name.

    Raises:
        ProblemError: `unknown_message`, with the names that there are.
    """
    found = {source.name: source for source in workflow.sources if source.kind == "messages"}
    if name not in found:
        raise ProblemError(
            "unknown_message",
            f"workflow {workflow.name!r} has no MessageSource {name[:_LONGEST_NAME]!r}",
            extra={"messages": sorted(found)},
        )
    return found[name]
