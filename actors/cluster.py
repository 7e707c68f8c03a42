"""Starts a workflow on the Ray cluster that this process is connected to, and stops it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import ray
import structlog
from ray.exceptions import GetTimeoutError, RayActorError

from headrace.actors.deployed_parts import states_of, topics_of, units_of
from headrace.actors.deployments import claim_incarnation, put_deployment
from headrace.actors.shell import names_of
from headrace.actors.spec import (
    NAMESPACE,
    ClusterStatus,
    CodeRef,
    Deployment,
    encode,
    shell_prefix,
    supervisor_name,
)
from headrace.actors.store_registry import Registry
from headrace.actors.supervisor import start_supervisor
from headrace.sources.suitable import check_durability
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.keyspace import incarnation_key
from headrace.workflows.plan import Plan
from headrace.workflows.state_review import renames_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = structlog.get_logger(__name__)
T = TypeVar("T")

DEFAULT_PARTITIONS: Final = 32
PERIOD: Final = 0.1
"""Seconds between two looks at the status while waiting."""
OnStatus = Callable[[ClusterStatus], None]


class AlreadyRunning(HeadraceError):
    """A workflow of this name is running; two supervisors would fight over its partitions."""

    def __init__(self, workflow: str, where: str) -> None:
        super().__init__(f"{workflow} is running already, {where}. Stop it first: headrace stop {workflow}")
        self.workflow = workflow
        self.where = where


class NotRunning(HeadraceError):
    """The workflow did not come up in time.

    Attributes:
        status: The last status document; None when the supervisor never gave one.
    """

    def __init__(self, workflow: str, waited: float, status: ClusterStatus | None) -> None:
        self.workflow = workflow
        self.status = status
        lines = [f"{workflow} is not up after {waited:.0f} s."]
        if status is None:
            lines.append("Its supervisor can't reach the store, or has not started.")
        else:
            lines += [f"{problem.where}: {problem.sentence}" for problem in status.problems]
            lines += [f"{role.name} is {role.state}." for role in status.roles if role.state != "serving" and role.role]
            if status.unplaced:
                lines.append(f"{len(status.unplaced)} partitions have no worker.")
        super().__init__("\n".join(lines))


def deployment_of(
    plan: Plan, code: CodeRef, redis_url: str, *, partitions: int | None = None, **options: Any
) -> Deployment:
    """What is to run, from a plan.

    Args:
        plan: The compiled workflow; with `fuse=True` among the options, compiled with `fuse="all"`.
        code: Where other processes import it.
        redis_url: `redis://host:port/database`.
        partitions: By default what the workflow says, else 32 (unkeyed: 1).
        options: More fields of `Deployment`.
    """
    number = partitions or plan.partitions or (DEFAULT_PARTITIONS if plan.keyed else 1)
    return Deployment(
        workflow=plan.name, code=code, redis_url=redis_url, partitions=number, units=units_of(plan),
        topics=topics_of(plan), states=states_of(plan), renames=renames_of(plan), **options,
    )  # fmt: skip


class Cluster:
    """A running workflow, as whoever started it (or came later) holds it."""

    def __init__(self, workflow: str, supervisor: ActorHandle[Any]) -> None:
        self.workflow = workflow
        self._supervisor: Any = supervisor

    @classmethod
    def connect(cls, workflow: str) -> Cluster:
        """The workflow of that name that runs on this Ray cluster.

        Raises:
            NotRunning: There is none.
        """
        try:
            return cls(workflow, ray.get_actor(supervisor_name(workflow), namespace=NAMESPACE))
        except ValueError:
            raise NotRunning(workflow, 0.0, None) from None

    def status(self, timeout: float = 5.0) -> ClusterStatus | None:
        """How it does now; None while the supervisor has nothing to say, is starting again, or is suspended."""
        try:
            blob: bytes = ray.get(self._supervisor.status.remote(), timeout=timeout)
        except (RayActorError, GetTimeoutError) as error:
            log.warning("supervisor_unavailable", workflow=self.workflow, reason=str(error).splitlines()[0])
            return None
        return msgspec.msgpack.decode(blob, type=ClusterStatus) if blob else None

    def wait_until_ready(
        self, timeout: timedelta = timedelta(seconds=60), on_status: OnStatus | None = None
    ) -> ClusterStatus:
        """Wait until every role is served and every partition has an owner.

        Args:
            timeout: How long at most.
            on_status: Called with each status document, for showing progress.

        Raises:
            NotRunning: It took too long; says what is missing. The supervisor goes on trying.
        """
        started = time.monotonic()
        while True:
            status = self.status()
            if status is not None:
                if on_status is not None:
                    on_status(status)
                if status.ready:
                    return status
            waited = time.monotonic() - started
            if waited > timeout.total_seconds():
                raise NotRunning(self.workflow, waited, status)
            time.sleep(PERIOD)

    def hold(self, timeout: timedelta = timedelta(seconds=10)) -> bool:
        """Finish and commit what is in flight, and begin nothing new, until `replace`.

        Returns:
            False when that was not done in time: nothing is lost if one goes on all the same.
        """
        seconds = timeout.total_seconds()
        try:
            return bool(ray.get(self._supervisor.hold.remote(seconds), timeout=seconds + 5))
        except (RayActorError, GetTimeoutError) as error:
            log.warning("supervisor_unavailable", workflow=self.workflow, reason=str(error).splitlines()[0])
            return False

    def replace(self, deployment: Deployment) -> None:
        """Run another version, on the same states and with the same partitions; returns before it is up.

        Spares that have not imported any code (`Deployment.late_code`) take the roles; other processes are replaced.

        Raises:
            StoreUnavailable: It could not be said in the store: the old version goes on once it is told to.
        """
        complete = run_here(say_deployment(deployment))
        try:
            ray.get(self._supervisor.replace.remote(encode(complete)), timeout=5.0)
        except (RayActorError, GetTimeoutError) as error:  # it will find the new version in the store
            log.warning("supervisor_unavailable", workflow=self.workflow, reason=str(error).splitlines()[0])

    def stop(self, timeout: timedelta = timedelta(seconds=20)) -> bool:
        """Finish and commit what is in flight, then end all processes of the workflow. Its state stays.

        Returns:
            False when processes were ended that had not finished in time: nothing is lost by that either.
        """
        seconds = timeout.total_seconds()
        try:
            drained = bool(ray.get(self._supervisor.shutdown.remote(seconds), timeout=seconds + 5))
        except (RayActorError, GetTimeoutError) as error:
            log.warning("supervisor_unavailable", workflow=self.workflow, reason=str(error).splitlines()[0])
            drained = False
        _kill_all(self.workflow, self._supervisor)
        return drained


def start(
    deployment: Deployment,
    *,
    timeout: timedelta = timedelta(seconds=60),
    on_status: OnStatus | None = None,
) -> Cluster:
    """Start a workflow and wait until all of it is up.

    Args:
        deployment: What is to run.
        timeout: How long to wait for it.
        on_status: Called with each status document meanwhile.

    Raises:
        AlreadyRunning: A workflow of this name runs, on this cluster or another one with the same store.
        NotRunning: It is not up in time; the supervisor goes on trying.
        StoreUnavailable: The store can't be reached.
        StoreUnsuitable: State would not be safe there.
    """
    cluster = launch(deployment)
    cluster.wait_until_ready(timeout, on_status)
    return cluster


def launch(deployment: Deployment) -> Cluster:
    """As `start`, without waiting."""
    workflow = deployment.workflow
    if runs_here(workflow):
        raise AlreadyRunning(workflow, "on this Ray cluster")
    run_here(publish_deployment(deployment))
    return _start_supervisor(workflow, deployment.redis_url)


def revive(deployment: Deployment) -> Cluster | None:
    """Start a workflow as it was deployed, where its Ray cluster was lost; None when its supervisor is there."""
    if runs_here(deployment.workflow):
        return None
    return _start_supervisor(deployment.workflow, deployment.redis_url)


def runs_here(workflow: str) -> bool:
    """Whether the Ray cluster that this process is connected to has a supervisor of the workflow."""
    try:
        ray.get_actor(supervisor_name(workflow), namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def _start_supervisor(workflow: str, redis_url: str) -> Cluster:
    _kill_shells(workflow)  # left by a supervisor that was ended for good
    try:
        handle = start_supervisor(workflow, redis_url)
    except ValueError as error:
        raise AlreadyRunning(workflow, "on this Ray cluster") from error
    return Cluster(workflow, handle)


async def say_deployment(deployment: Deployment) -> Deployment:
    """Write down what is to run; returns it with what belongs to this life of the workflow."""
    async with Registry(deployment.redis_url, connections=1) as registry:
        incarnation = await claim_incarnation(registry, deployment.workflow, secrets.token_hex(8))
        complete = msgspec.structs.replace(deployment, incarnation=incarnation)
        await put_deployment(registry, complete)
        # Outputs carry it, and in a cluster it lies at another node than they do.
        await registry.confirm(incarnation_key(deployment.workflow), Durability.parse(deployment.durability))
        return complete


async def publish_deployment(deployment: Deployment) -> Deployment:
    """As `say_deployment`, once it is sure that the store can do what it asks, and that nobody runs the workflow.

    Raises:
        AlreadyRunning: Somebody does.
        StoreUnavailable: It can't be reached.
        StoreUnsuitable: It can't.
    """
    async with Registry(deployment.redis_url, connections=1) as registry:
        await check_durability(registry.client, registry.address, Durability.parse(deployment.durability))
        if not await _lapses(registry, supervisor_name(deployment.workflow)):
            raise AlreadyRunning(deployment.workflow, f"with the same store ({registry.address})")
    return await say_deployment(deployment)


async def _lapses(registry: Registry, lease: str) -> bool:
    """Wait until nobody has it; False as soon as somebody is seen to renew it.

    One who was killed a moment ago holds it until it lapses: seconds, as many as its holder has chosen.
    """
    least = float("inf")
    while (left := await registry.lease_left(lease)) is not None:
        if left > least:
            return False
        least = left
        await asyncio.sleep(PERIOD)
    return True


def _kill_all(workflow: str, supervisor: ActorHandle[Any]) -> None:
    ray.kill(supervisor, no_restart=True)
    _kill_shells(workflow)
    deadline = time.monotonic() + 10.0
    while names_of(workflow) and time.monotonic() < deadline:
        time.sleep(0.02)


def _kill_shells(workflow: str) -> None:
    for name in names_of(workflow):
        if name.startswith(shell_prefix(workflow)):
            try:
                ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
            except ValueError:
                continue  # it has ended meanwhile


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, on a loop of its own: the caller's thread may have one running."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
