"""The supervisor on a real Ray cluster: whatever process is killed or suspended, its role is taken by another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import ray

from headrace.actors.cluster import AlreadyRunning, Cluster, deployment_of, launch, start
from headrace.actors.deployments import claim_incarnation, get_deployment
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.spec import NAMESPACE, ClusterStatus, Deployment, RoleStatus, supervisor_name
from headrace.actors.store_registry import Registry
from waiting import until

FOLDER = Path(__file__).parent / "supervised"
ENGINE = "two_nodes:BookkeepingWorker"

pytestmark = pytest.mark.cluster


@pytest.fixture
def deployment(ray_cluster: LocalRay, redis_url: str) -> Deployment:
    """Two workers with eight partitions, two nodes, one spare."""
    code, workflow = load_workflow("two_nodes.py", FOLDER)
    return deployment_of(workflow.compile(), code, redis_url, partitions=8, workers=2, worker_engine=ENGINE)


@pytest.fixture
def cluster(deployment: Deployment) -> Iterator[Cluster]:
    """The workflow, running, with its spare ready."""
    cluster = start(deployment)
    until(lambda: role(cluster, "spare").state == "spare", "the spare is ready")
    yield cluster
    cluster.stop()


def role(cluster: Cluster, name: str) -> RoleStatus:
    """The first process of that name in the status document."""
    status = until(cluster.status, "the supervisor has a status")
    found = [row for row in status.roles if row.name == name]
    return found[0] if found else RoleStatus(name=name, actor=None, pid=None, state="missing", incarnation=None)


def replaced(cluster: Cluster, before: RoleStatus) -> RoleStatus:
    """The process that has the role of `before` now, once it is another one, and all is placed."""

    def look() -> RoleStatus | None:
        now = role(cluster, before.name)
        return now if now.state == "serving" and now.pid != before.pid else None

    found: RoleStatus = until(look, f"{before.name} is served by another process")
    return found


def placed(cluster: Cluster) -> ClusterStatus:
    """The status, once all partitions have an owner."""

    def look() -> ClusterStatus | None:
        status = cluster.status()
        return status if status is not None and status.ready else None

    found: ClusterStatus = until(look, "everything is served and placed")
    return found


def test_a_killed_node_is_replaced_by_the_spare(cluster: Cluster) -> None:
    node, spare = role(cluster, "tag/0"), role(cluster, "spare")
    assert node.pid is not None

    os.kill(node.pid, signal.SIGKILL)

    assert replaced(cluster, node).pid == spare.pid
    fresh = until(lambda: (row := role(cluster, "spare")).state == "spare" and row, "there is a spare again")
    assert fresh.pid != spare.pid


def test_workers_learn_where_the_replaced_node_is(cluster: Cluster) -> None:
    node = role(cluster, "tag/0")
    assert node.pid is not None

    os.kill(node.pid, signal.SIGKILL)

    now = replaced(cluster, node)
    for worker in ("worker/0", "worker/1"):
        until(lambda name=worker: f"node/{now.incarnation}" in role(cluster, name).counters, "it has the new map")


def test_partitions_of_a_killed_worker_are_owned_again_and_the_others_stay(cluster: Cluster) -> None:
    worker, other = role(cluster, "worker/0"), role(cluster, "worker/1")
    assert worker.pid is not None

    os.kill(worker.pid, signal.SIGKILL)

    replaced(cluster, worker)
    status = placed(cluster)
    assert set(role(cluster, "worker/0").partitions) == set(worker.partitions)
    assert set(role(cluster, "worker/1").partitions) == set(other.partitions)
    assert status.unplaced == ()


def test_a_suspended_node_is_replaced_and_then_ended(cluster: Cluster) -> None:
    node = role(cluster, "log/0")
    assert node.pid is not None

    os.kill(node.pid, signal.SIGSTOP)

    replaced(cluster, node)
    until(lambda: not Path(f"/proc/{node.pid}").exists(), "the suspended process is gone")


def test_a_suspended_worker_loses_its_partitions(cluster: Cluster) -> None:
    worker = role(cluster, "worker/1")
    assert worker.pid is not None

    os.kill(worker.pid, signal.SIGSTOP)

    now = replaced(cluster, worker)
    placed(cluster)
    assert set(role(cluster, "worker/1").partitions) == set(worker.partitions)
    assert now.incarnation is not None and worker.incarnation is not None
    assert now.incarnation > worker.incarnation


def test_a_killed_supervisor_comes_back_and_adopts_what_runs(cluster: Cluster) -> None:
    before = placed(cluster)
    supervisor = ray.get_actor(supervisor_name("two-nodes"), namespace=NAMESPACE)
    pid = ray.get(supervisor.pid.remote())

    os.kill(pid, signal.SIGKILL)

    def look() -> ClusterStatus | None:
        status = cluster.status()
        return status if status is not None and status.ready and status.term > before.term else None

    after: ClusterStatus = until(look, "a new supervisor has everything in hand")
    served = {row.name: (row.pid, sorted(row.partitions)) for row in before.roles if row.name != "spare"}
    assert {row.name: (row.pid, sorted(row.partitions)) for row in after.roles if row.name != "spare"} == served


def test_a_suspended_supervisor_is_ended_by_a_worker_and_comes_back(cluster: Cluster) -> None:
    term = placed(cluster).term
    supervisor = ray.get_actor(supervisor_name("two-nodes"), namespace=NAMESPACE)
    os.kill(ray.get(supervisor.pid.remote()), signal.SIGSTOP)

    def look() -> ClusterStatus | None:
        status = cluster.status(timeout=0.5)
        return status if status is not None and status.ready and status.term > term else None

    until(look, "a new supervisor has everything in hand", within=40)


def test_what_dies_together_with_the_supervisor_is_replaced(cluster: Cluster) -> None:
    worker = role(cluster, "worker/0")
    supervisor = ray.get_actor(supervisor_name("two-nodes"), namespace=NAMESPACE)
    pid = ray.get(supervisor.pid.remote())
    assert worker.pid is not None

    os.kill(worker.pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)

    replaced(cluster, worker)
    assert placed(cluster).unplaced == ()


async def test_the_deployment_has_the_incarnation_of_the_store(cluster: Cluster, redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        deployment = await get_deployment(registry, cluster.workflow)
        assert deployment is not None
        assert deployment.incarnation == await claim_incarnation(registry, cluster.workflow, "another")


def test_a_second_start_is_refused(cluster: Cluster, deployment: Deployment) -> None:
    with pytest.raises(AlreadyRunning, match="two-nodes is running already"):
        launch(deployment)


def test_stop_ends_every_process(deployment: Deployment) -> None:
    cluster = start(deployment)
    pids = [row.pid for row in placed(cluster).roles if row.pid is not None]

    assert cluster.stop()

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all processes are gone")
    start(deployment, timeout=timedelta(seconds=30)).stop()
