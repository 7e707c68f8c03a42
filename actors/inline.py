"""A workflow in this process alone, without Ray: `dev --inline`, for debuggers and a quick start.

One worker's engine owns all partitions, with all nodes inside it, on the same store, sources and sinks as elsewhere, so
each event counts once here, too. What one process can't have is a successor: when it dies, all stands still until the
next start, which goes on where the last commit was.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from datetime import timedelta
from typing import Final

import structlog

from headrace.actors.cluster import publish_deployment, run_here, say_deployment
from headrace.actors.leases import LeaseKeeper
from headrace.actors.loading import import_workflow, user_traceback
from headrace.actors.node_settings import settings_of
from headrace.actors.pauses import get_pauses
from headrace.actors.spec import (
    Assign,
    ClusterStatus,
    Deployment,
    Drain,
    EngineStatus,
    GetStatus,
    HoldSources,
    PartitionLost,
    Pause,
    Report,
    RoleSpec,
    RoleStatus,
    WorkerRole,
    supervisor_name,
)  # fmt: skip
from headrace.actors.store_link import PROCESS
from headrace.actors.store_registry import Registry
from headrace.actors.worker import Worker
from headrace.workflows.errors import HeadraceError
from headrace.workflows.ports import BEGINNING
from headrace.workflows.progress import Progress

log = structlog.get_logger(__name__)

PERIOD: Final = 0.5
"""Seconds between two status documents, and until a lost partition is taken again."""
_ROLE: Final = WorkerRole(0)


class InlineFailed(HeadraceError):
    """A node's `open()` has raised."""

    def __init__(self, error: Exception, deployment: Deployment) -> None:
        trace = settings_of(deployment.settings).mask(user_traceback(error, deployment.code.folder))
        super().__init__(f"{deployment.workflow} does not start: open() of a node has raised.\n{trace}")


class InlineCluster:
    """A running workflow, as `Cluster` is one: made by `launch_inline`. Its user code runs on a thread of its own."""

    def __init__(self, deployment: Deployment, term: int, lease: LeaseKeeper) -> None:
        self.workflow = deployment.workflow
        self._deployment = deployment
        self._term = term
        self._lease = lease
        self._placement = 0
        self._restarts = 0
        self._lost: set[int] = set()
        self._ended = threading.Event()
        self._state = "starting"
        self._paused: tuple[Pause, ...] = run_here(self._pauses())
        self._worker = self._started(deployment)
        self._own(range(deployment.partitions))
        self._state = "running"
        self._document = self._look()
        threading.Thread(target=self._look_after, name="headrace-inline", daemon=True).start()

    def status(self) -> ClusterStatus | None:
        """How it did at the last look. Nobody waits for it: user code may stand at a breakpoint."""
        return self._document

    def _look(self) -> ClusterStatus:
        reply = self._worker.control(GetStatus())
        assert isinstance(reply, EngineStatus), "engines answer so"
        deployment = self._deployment
        unplaced = tuple(sorted(set(range(deployment.partitions)) - set(reply.partitions)))
        role = RoleStatus(
            name=_ROLE.name, actor="inline", pid=os.getpid(), state="serving", incarnation=self._restarts,
            role=_ROLE.name, restarts=self._restarts, partitions=reply.partitions, counters=reply.counters,
        )  # fmt: skip
        state = "degraded" if reply.problems and self._state == "running" else self._state
        everything = any(not pause.name for pause in self._paused)
        state = "paused" if everything and state == "running" else state
        heard = reply.paused == self._names_paused
        return ClusterStatus(
            workflow=self.workflow, version=deployment.code.version, state=state,
            ready=not unplaced and self._state == "running", term=self._term, placement=self._placement,
            partitions=deployment.partitions, roles=(role,), unplaced=unplaced, problems=reply.problems,
            time=time.time(), durability=deployment.durability, paused=self._paused,
            at_rest=heard and not (everything and reply.in_flight),
        )  # fmt: skip

    def hold(self, timeout: timedelta = timedelta(seconds=10)) -> bool:
        """Finish and commit what is in flight, and begin nothing new, until `replace`; see `Cluster.hold`."""
        del timeout  # the engine has its own
        self._state = "stopping"
        try:
            self._worker.control(Drain())
        except (HeadraceError, TimeoutError) as error:
            log.warning("not_drained", workflow=self.workflow, reason=str(error))
            return False
        return True

    def replace(self, deployment: Deployment) -> None:
        """Run another version, in the same process: its code has been imported anew by then; see `Cluster.replace`.

        Raises:
            InlineFailed: A node does not open; the version before goes on.
            StoreUnavailable: It could not be said in the store; the version before goes on.
        """
        before = self._worker
        try:
            following = self._started(deployment)
            run_here(say_deployment(deployment))
        except HeadraceError:
            self._own(range(self._deployment.partitions))
            self._state = "running"
            raise
        before.stop()
        self._worker, self._deployment, self._restarts = following, deployment, self._restarts + 1
        self._own(range(deployment.partitions))
        self._state = "running"
        self._document = self._look()

    def stop(self, timeout: timedelta = timedelta(seconds=20)) -> bool:
        """Finish and commit what is in flight, then disconnect; False: not all in time."""
        self._ended.set()
        drained = self.hold(timeout)
        self._worker.stop()
        self._lease.stop()
        return drained

    def _started(self, deployment: Deployment) -> Worker:
        plan = import_workflow(deployment.code).compile(fuse="all", now=BEGINNING)
        spec = RoleSpec(
            role=_ROLE,
            actor="inline",
            incarnation=self._restarts,
            term=self._term,
            deployment=deployment,
            paused=self._names_paused,
        )
        worker = Worker(spec, plan, self._reported, progress=Progress())  # nobody comes after a debugger
        try:
            worker.start()
        except HeadraceError:
            raise
        except Exception as error:  # user code (`open`): whatever it raises is told with the user's frames
            raise InlineFailed(error, deployment) from error
        return worker

    def _own(self, partitions: range | tuple[int, ...]) -> None:
        self._placement += 1
        self._worker.control(Assign(partitions=tuple(partitions), term=self._term, placement=self._placement))

    def _reported(self, report: Report) -> None:
        if isinstance(report, PartitionLost):
            self._lost.add(report.partition)

    def _look_after(self) -> None:
        """What a supervisor does: take lost partitions again, and leave the status where others find it."""
        while not self._ended.wait(PERIOD):
            try:
                lost, self._lost = tuple(self._lost), set()
                if lost and self._state == "running":
                    self._own(lost)
                self._paused = run_here(self._pauses())
                self._worker.control(HoldSources(self._names_paused))
                self._document = self._look()
                run_here(self._tell(self._document))
            except (HeadraceError, TimeoutError) as error:
                log.warning("inline_not_looked_after", reason=str(error))

    @property
    def _names_paused(self) -> tuple[str, ...]:
        return tuple(pause.name for pause in self._paused)

    async def _pauses(self) -> tuple[Pause, ...]:
        async with Registry(self._deployment.redis_url, connections=1) as registry:
            return await get_pauses(registry, self.workflow)

    async def _tell(self, document: ClusterStatus) -> None:
        async with Registry(self._deployment.redis_url, connections=1) as registry:
            await registry.put_status(self.workflow, PROCESS, document)


def launch_inline(deployment: Deployment) -> InlineCluster:
    """Start a workflow in this process; returns when it runs.

    Args:
        deployment: What is to run, with `fuse=True` and no units.

    Raises:
        AlreadyRunning: A workflow of this name runs with the same store.
        StoreUnavailable: The store can't be reached.
        InlineFailed: A node does not open.
    """
    complete = run_here(publish_deployment(deployment))
    lease = LeaseKeeper(deployment.redis_url, supervisor_name(deployment.workflow), secrets.token_hex(8)).start()
    try:
        return InlineCluster(complete, run_here(_term(complete)), lease)
    except Exception:
        lease.stop()
        raise


async def _term(deployment: Deployment) -> int:
    async with Registry(deployment.redis_url, connections=1) as registry:
        return await registry.next_term(deployment.workflow)
