"""G1, G3: keys arrive at other partitions than theirs, workers die at any step, the store loses its tail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from brokers import Broker, Topics
from headrace.embedded import Valkey
from rig import Rig, run
from solo import solo
from waiting import until


@pytest.fixture
def scattered_rig(kafka: Broker, topic: Topics, own_valkey: Valkey, tmp_path: Path) -> Rig:
    """As `quiet_rig`, with a topic that another partitioner has filled."""
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    return Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, scattered=True, fuse=True)


@pytest.mark.parametrize(
    "point",
    [
        "before:internal-append",
        "after:internal-append",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in (
                "before:commit",
                "after:commit",
                "before:outbox-trim",
                "after:outbox-trim",
                "after:pull",
                "after:load",
            )
        ),
    ],
)
def test_G01_events_are_sent_on_once_though_workers_die_at_any_step(scattered_rig: Rig, point: str) -> None:
    halves = ((0, 1), (2, 3))
    for index, occurrence in enumerate((1, 4)):
        crash_at = f"{point}:{occurrence}"
        with (
            solo(scattered_rig, index=index, placement=index + 1, partitions=halves[0], crash_at=crash_at) as one,
            solo(scattered_rig, index=5, placement=index + 1, partitions=halves[1]),
            scattered_rig.load,
        ):
            until(lambda one=one: one.crashed, f"it has crashed at {crash_at}")

    with solo(scattered_rig, index=2, placement=3):
        scattered_rig.check()


def test_G01_events_on_their_way_survive_a_store_that_loses_its_last_seconds(
    scattered_rig: Rig, own_valkey: Valkey, tmp_path: Path
) -> None:
    rig = scattered_rig
    with solo(rig, index=0, partitions=(0, 1)) as one, solo(rig, index=1, partitions=(2, 3)) as two:
        with rig.load:
            rig.wait_for_commits([5, 5, 5, 5])
            shutil.copytree(own_valkey.folder, tmp_path / "earlier")
            rig.wait_for_commits([sequence + 5 for sequence in run(rig.sequences())])

            own_valkey.kill()
            shutil.rmtree(own_valkey.folder)
            shutil.copytree(tmp_path / "earlier", own_valkey.folder)
            own_valkey.start()
            rig.wait_for_commits([sequence + 5 for sequence in run(rig.sequences())])

        rig.check(repeats=True)  # at the level `fast`, outputs of a second that the store lost leave again
        assert one.status()["counters"][f"sent_on:{rig.readings}"] > 0
        assert two.status()["counters"]["sent_on"] > 0
