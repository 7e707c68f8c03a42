"""A process outside Ray that looks after deployed workflows: when their Ray cluster was lost, it brings them back.

Detached actors die with the head of their cluster. What they need to come back lies in the store: deployment, code,
states, positions. So this reads deployments and leases, and starts a child for each try (see `revival`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import msgspec
import structlog

from headrace.actors.deployments import get_deployment, is_stopped
from headrace.actors.revival import Attempt, Report
from headrace.actors.spec import supervisor_name
from headrace.actors.store_registry import Registry
from headrace.actors.supervise_status import SuperviseStatus, supervise_key
from headrace.actors.watchlist import Watchlist
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect
from headrace.workflows.errors import HeadraceError

log = structlog.get_logger(__name__)

PERIOD: Final = 2.0
"""Seconds between two looks."""
ATTEMPT_WITHIN: Final = 90.0
"""Seconds for one attempt; then its process is ended."""
_FADES_MS: Final = 15_000
_END_WITHIN: Final = 5.0


class Supervise:
    """Looks after the workflows that were deployed to one cluster.

    Args:
        address: Of the Ray cluster, as this machine reaches it.
        redis_url: The store.
        cluster: Label of the cluster: `deploy --cluster`.
        heartbeat: File whose time is set at every look, for a liveness probe.
    """

    def __init__(self, address: str, redis_url: str, cluster: str, heartbeat: Path | None = None) -> None:
        self._address = address
        self._url = redis_url
        self._cluster = cluster
        self._heartbeat = heartbeat
        self._list = Watchlist()
        self._child: asyncio.subprocess.Process | None = None
        self._said = ""

    async def run(self, stopped: asyncio.Event) -> None:
        """Look after them until `stopped` is set; ends its child, and nothing else."""
        log.info("supervise_started", cluster=self._cluster, address=self._address)
        registry = Registry(self._url, connections=2)
        trying: asyncio.Task[None] | None = None
        try:
            while not stopped.is_set():
                await self._look(registry)
                due = self._list.due(time.monotonic())
                if due and (trying is None or trying.done()):
                    trying = asyncio.create_task(self._try(due))
                if self._heartbeat is not None:
                    self._heartbeat.touch()
                await _first_of(stopped, PERIOD)
        finally:
            await self._end_child()
            if trying is not None:
                trying.cancel()
                await asyncio.gather(trying, return_exceptions=True)
            await registry.close()
            log.info("supervise_stopped", cluster=self._cluster, **asdict(self._list.counters))

    async def _look(self, registry: Registry) -> None:
        try:
            wanted = await self._wanted(registry)
            leases = await registry.leases([supervisor_name(name) for name in wanted])
            running = [name for name in wanted if leases[supervisor_name(name)] is not None]
            for name in self._list.seen(wanted, running, time.monotonic()):
                log.warning("workflow_not_running", workflow=name, cluster=self._cluster)
            await self._tell(registry)
            self._said = ""
        except HeadraceError as error:
            self._list.store_away()
            if str(error) != self._said:
                self._said = str(error)
                log.warning("store_unreachable", reason=self._said)

    async def _wanted(self, registry: Registry) -> list[str]:
        found = []
        for name in await registry.workflows():
            deployment = await get_deployment(registry, name)
            if deployment is not None and deployment.cluster == self._cluster and not await is_stopped(registry, name):
                found.append(name)
        return found

    async def _tell(self, registry: Registry) -> None:
        status = SuperviseStatus(
            cluster=self._cluster, address=self._address, host=socket.gethostname(), pid=os.getpid(),
            time=time.time(), watched=tuple(self._list.watched), lost=self._list.lost,
            counters=asdict(self._list.counters),
        )  # fmt: skip
        with store_errors(registry.address), effect(Effect.STATUS):
            await registry.client.set(supervise_key(self._cluster), msgspec.json.encode(status), px=_FADES_MS)

    async def _try(self, names: list[str]) -> None:
        log.info("reviving", workflows=names, address=self._address)
        attempt = Attempt(address=self._address, redis_url=self._url, workflows=tuple(names))
        report = await self._ask_child(attempt)
        self._list.tried(names, report, time.monotonic())
        if report.error:
            log.warning("revival_failed", workflows=names, reason=report.error)
        for revival in report.revivals:
            log.warning("revival", workflow=revival.workflow, outcome=revival.outcome, reason=revival.reason or None)

    async def _ask_child(self, attempt: Attempt) -> Report:
        command = (sys.executable, "-m", "headrace.actors.revival")
        pipe = asyncio.subprocess.PIPE
        child = self._child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            async with asyncio.timeout(ATTEMPT_WITHIN):
                answer, _ = await child.communicate(msgspec.json.encode(attempt))
            return msgspec.json.decode(answer.strip().splitlines()[-1], type=Report)
        except TimeoutError:
            return Report(error=f"no answer within {ATTEMPT_WITHIN:.0f} s")
        except (IndexError, msgspec.DecodeError):
            return Report(error=f"the process that tried it ended with {child.returncode}")
        finally:
            await self._end_child()

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            async with asyncio.timeout(_END_WITHIN):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
