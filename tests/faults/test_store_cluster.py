"""Workers on a cluster as their store: a node dies under load, its replica takes over, then a worker dies, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Broker, Topics
from rig import Rig, run
from solo import solo
from stores import StoreCluster
from waiting import until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    with StoreCluster(tmp_path / "store", replica=True) as cluster:
        yield cluster


def test_a_node_of_the_store_dies_and_a_worker_too(
    kafka: Broker, topic: Topics, cluster: StoreCluster, tmp_path: Path
) -> None:
    """The promoted replica may lack the end: at level `fast` states are right all the same."""
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    rig = Rig(tmp_path, kafka.bootstrap, cluster.url, readings, alerts, fuse=True)
    with rig.load:
        with solo(rig) as worker:
            rig.wait_for_commits([3, 3, 3, 3])
            cluster.nodes[0].kill()
            until(cluster.promoted, "its replica has taken over")
            rig.wait_for_commits([sequence + 3 for sequence in run(rig.sequences())])
            until(lambda: not worker.status()["problems"], "nothing is wrong any more")
        with solo(rig, index=1, placement=2):
            rig.wait_for_commits([sequence + 3 for sequence in run(rig.sequences())])
            rig.load.stop()
            rig.check()
