"""F2 on Ray: as in `test_crash_points`, with nodes in actors of their own and the supervisor to bring a worker back."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers import Broker, Topics
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from rig import Rig
from waiting import until

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    "crash_at",
    [
        "before:call:1",
        "after:call:5",
        "after:commit:3",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in (
                "before:call:6", "after:call:1", "after:pull:1", "after:pull:4", "after:load:2", "before:commit:1",
                "before:commit:4", "after:commit:1", "before:relay-send:1", "after:relay-send:1",
                "after:transaction-init:1", "after:transaction-begin:2", "before:transaction-commit:2",
                "after:transaction-commit:1",
                "before:outbox-trim:1", "after:outbox-trim:2", "before:acquire:2", "after:acquire:2",
                "before:lease:4", "after:lease:4",
            )
        ),
    ],
)  # fmt: skip
def test_F02_a_worker_with_node_actors_crashes_between_any_two_steps(
    ray_cluster: LocalRay, kafka: Broker, topic: Topics, own_valkey: Valkey, tmp_path: Path, crash_at: str
) -> None:
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    rig = Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, crash_at={"worker/0": crash_at})
    rig.load.send(1_000)

    with rig, rig.load:
        until(lambda: rig.role("worker/0").restarts == 1, "it has crashed and is served again", within=40)

        rig.load.stop()
        rig.check()
