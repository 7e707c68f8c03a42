"""A whole workflow on a cluster as its store: a node dies under load, its replica takes over, nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Broker, Topics
from headrace.actors.local_ray import LocalRay
from rig import Rig, run
from stores import StoreCluster
from waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    with StoreCluster(tmp_path / "store", replica=True) as cluster:
        yield cluster


def test_a_node_of_the_store_dies_and_a_worker_too(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, cluster: StoreCluster, tmp_path: Path
) -> None:
    """The promoted replica may lack the end: at level `fast` states are right all the same."""
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    with Rig(tmp_path, kafka.bootstrap, cluster.url, readings, alerts, workers=2) as rig:
        with rig.load:
            rig.ready()
            rig.wait_for_commits([3, 3, 3, 3])
            cluster.nodes[0].kill()
            until(cluster.promoted, "its replica has taken over")
            rig.wait_for_commits([sequence + 3 for sequence in run(rig.sequences())])
            rig.hit("worker/0")

        rig.check()
        until(lambda: not rig.status().problems, "nothing is wrong any more")
