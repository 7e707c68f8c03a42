"""Where workflows run in the contract's cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from rigs import HarnessRig, Rig

if TYPE_CHECKING:
    from brokers import Broker, Topics

CLUSTER = pytest.mark.cluster
FUSED = [
    pytest.param("harness", id="harness"),
    pytest.param("harness fused", id="harness-fused"),
    pytest.param("cluster fused", id="cluster-fused", marks=CLUSTER),
]
ALL = [*FUSED, pytest.param("cluster", id="cluster", marks=CLUSTER)]
"""With a process for each node, too: seconds more for each case."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark of these tests known."""
    config.addinivalue_line("markers", "actors: runs on the cluster with a process for each node, too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case of the contract runs everywhere; marked `actors`, also with a process for each node."""
    if "rig" in metafunc.fixturenames:
        actors = metafunc.definition.get_closest_marker("actors") is not None
        metafunc.parametrize("rig", ALL if actors else FUSED, indirect=True)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A place where the case's workflow can run."""
    place, _, fused = request.param.partition(" ")
    rig = HarnessRig("all" if fused else None) if place == "harness" else _on_cluster(request, fused)
    yield rig
    rig.stop()


def _on_cluster(request: pytest.FixtureRequest, fused: str) -> Rig:
    from cluster_rig import ClusterRig  # noqa: PLC0415  what runs without a cluster does not wait for its imports

    broker: Broker = request.getfixturevalue("kafka")
    topics: Topics = request.getfixturevalue("topic")
    request.getfixturevalue("ray_cluster")
    return ClusterRig(broker.bootstrap, request.getfixturevalue("redis_url"), topics, "all" if fused else None)
