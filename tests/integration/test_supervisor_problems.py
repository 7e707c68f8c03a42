"""What can't start is named, with the user's own frames, and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headrace.actors.cluster import Cluster, NotRunning, deployment_of, launch, start
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.spec import CodeRef, Deployment, Problem
from waiting import until

FOLDER = Path(__file__).parent / "supervised"
ENGINE = "two_nodes:BookkeepingWorker"

pytestmark = pytest.mark.cluster


@pytest.fixture
def launched(ray_cluster: LocalRay) -> Iterator[Callable[[Deployment], Cluster]]:
    """Launches workflows and stops them afterwards."""
    clusters: list[Cluster] = []

    def run(deployment: Deployment) -> Cluster:
        clusters.append(launch(deployment))
        return clusters[-1]

    yield run
    for cluster in clusters:
        cluster.stop(timedelta(seconds=2))


def problem(cluster: Cluster, word: str) -> Problem:
    """The first problem of that kind in the status document."""

    def look() -> Problem | None:
        status = cluster.status()
        return next((row for row in status.problems if row.word == word), None) if status else None

    found: Problem = until(look, f"a problem {word} is named")
    return found


def restarts(cluster: Cluster, name: str) -> int:
    """How often the role was given to another process."""
    status = cluster.status()
    return next(row.restarts for row in status.roles if row.name == name) if status else 0


def test_a_node_that_cannot_open_is_named_and_tried_again(
    launched: Callable[[Deployment], Cluster], redis_url: str
) -> None:
    code, workflow = load_workflow("broken_open.py", FOLDER)
    cluster = launched(deployment_of(workflow.compile(), code, redis_url, worker_engine=ENGINE))

    found = problem(cluster, "open")

    assert found.where == "score/0"
    assert found.sentence == "OSError: the model file is missing"
    assert found.traceback is not None
    assert "in load_model" in found.traceback
    assert "headrace/" not in found.traceback
    until(
        lambda: next(row for row in cluster.status().roles if row.name == "score/0").restarts > 1, "it is tried again"
    )
    with pytest.raises(NotRunning, match="score/0: OSError: the model file is missing"):
        cluster.wait_until_ready(timedelta(seconds=0))


def test_a_module_that_fails_to_import_in_the_shells_is_named(
    launched: Callable[[Deployment], Cluster], redis_url: str
) -> None:
    code = CodeRef(folder=str(FOLDER), module="broken_import", version="1")
    cluster = launched(Deployment(workflow="broken-import", code=code, redis_url=redis_url, partitions=1))

    found = problem(cluster, "import")

    assert found.sentence == "broken_import fails to import."
    assert found.traceback is not None
    assert found.traceback.startswith('  File "')
    assert "broken_import.py" in found.traceback.splitlines()[0]
    assert "JSONDecodeError" in found.traceback


def test_a_workflow_that_was_stopped_can_start_again(ray_cluster: LocalRay, redis_url: str) -> None:
    code, workflow = load_workflow("two_nodes.py", FOLDER)
    deployment = deployment_of(workflow.compile(), code, redis_url, partitions=2, worker_engine=ENGINE)
    start(deployment).stop()

    cluster = start(deployment)

    status = cluster.status()
    cluster.stop()
    assert status is not None
    assert status.term > 1
