"""G1: a workflow that is restored from a backup counts each event once, whatever happened since the backup."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from brokers import Broker, Topics
from headrace.actors.backup import back_up
from headrace.actors.deployments import claim_incarnation, put_deployment
from headrace.actors.restore import restore
from headrace.actors.store import Store
from headrace.embedded import Valkey
from headrace.workflows.store import WorkflowDescriptor
from ledger import PARTITIONS
from rig import Rig, run
from solo import solo
from waiting import until


@pytest.fixture
def scattered_rig(kafka: Broker, topic: Topics, own_valkey: Valkey, tmp_path: Path) -> Rig:
    """Its records lie in other topic partitions than their keys' own, so most events go between partitions."""
    readings, alerts = topic(4, name="readings"), topic(4, name="alerts")
    return Rig(tmp_path, kafka.bootstrap, own_valkey.url, readings, alerts, scattered=True, fuse=True)


async def saved(rig: Rig, path: Path) -> None:
    deployment = rig.deployment
    async with Store(deployment.redis_url, deployment.workflow) as store:
        await store.publish_workflow(WorkflowDescriptor(name=deployment.workflow, partitions=PARTITIONS))
        await claim_incarnation(store, deployment.workflow, deployment.incarnation)
        await put_deployment(store, deployment)
        await back_up(store, deployment.workflow, path)


async def restored(rig: Rig, path: Path) -> str:
    async with Store(rig.deployment.redis_url, rig.deployment.workflow) as store:
        return (await restore(store, path, who="test", replace=True)).incarnation


def test_G01_a_restored_workflow_counts_what_came_since_once(scattered_rig: Rig, tmp_path: Path) -> None:
    rig, path = scattered_rig, tmp_path / "ledger.backup"
    with (
        solo(rig, index=0, partitions=(0, 1), crash_at="after:internal-append:6") as one,
        solo(rig, index=1, partitions=(2, 3), crash_at="after:commit:12") as two,
        rig.load,
    ):
        until(lambda: one.crashed and two.crashed, "both have crashed, with events on their way")
    run(saved(rig, path))
    before = run(rig.sequences())
    with solo(rig, index=2, placement=2), rig.load:
        rig.wait_for_commits([sequence + 8 for sequence in before])

    life = run(restored(rig, path))

    assert run(rig.sequences()) == before
    assert life != rig.deployment.incarnation
    rig.deployment = msgspec.structs.replace(rig.deployment, incarnation=life)
    with solo(rig, index=3, placement=3), rig.load:
        rig.wait_for_commits([sequence + 3 for sequence in before])
        rig.load.stop()
        rig.check(repeats=True)
