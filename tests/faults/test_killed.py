"""F1, F3, G1, G3: processes are killed or suspended under load; nothing is lost, nothing is applied twice.

Each test prints how long it took until every partition committed again. Mechanism: results are final at the
worker, calls are sent again, positions are committed with the states.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import pytest

from brokers import Broker, Topics
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from rig import Rig, run

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def rig(ray_cluster: LocalRay, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two workers, three nodes, one spare; all tests hit the same deployment, one after the other."""
    folder = tmp_path_factory.mktemp("killed")
    topics = Topics(kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    with (
        Valkey(folder=folder / "valkey") as valkey,
        Rig(folder, kafka.bootstrap, valkey.url, readings, alerts, workers=2) as rig,
    ):
        yield rig
    topics.remove()


@pytest.mark.parametrize(
    "names",
    [
        ("classify/0",),
        ("worker/0",),
        ("supervisor",),
        ("alarm/0",),
        ("worker/1", "classify/0"),
        ("worker/0", "worker/1"),
        ("worker/0", "supervisor"),
        ("classify/0", "damp/0", "alarm/0"),
    ],
    ids=" and ".join,
)
def test_F01_whoever_is_killed_under_load_nothing_is_lost_or_applied_twice(rig: Rig, names: tuple[str, ...]) -> None:
    rig.ready()
    with rig.load:
        rig.hit(*names)

    rig.check()


@pytest.mark.parametrize("name", ["classify/0", "worker/1", "supervisor"])
def test_F03_whoever_is_suspended_under_load_is_replaced(rig: Rig, name: str) -> None:
    rig.ready()
    with rig.load:
        rig.hit(name, by=signal.SIGSTOP)

    rig.check()


@pytest.mark.slow
def test_F01_processes_are_killed_again_and_again_before_all_are_back(rig: Rig) -> None:
    draw = random.Random(5)
    roles = ["worker/0", "worker/1", "classify/0", "damp/0", "alarm/0", "supervisor"]
    rig.load.send(20_000)
    with rig.load:
        for _ in range(12):
            before = run(rig.sequences())
            rig.kill_if_there(draw.choice(roles))
            rig.kill_if_there(draw.choice(roles))
            rig.wait_for_commits([sequence if draw.random() < 0.5 else -1 for sequence in before])

    rig.check()
