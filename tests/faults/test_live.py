"""F10: what runs is changed under load: workers, replicas, the version, a pause. Nothing lost, nothing twice, in order.

Each test prints how long partitions stood still. Mechanism: the next processes come up beside those that serve, and a
partition goes over after its last commit. The states hold a chain over the numbers of each key's readings, so another
order would show.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from brokers import Broker, Topics
from headrace.actors.deployments import get_deployment
from headrace.actors.live_change import NotTaken, change_live
from headrace.actors.loading import load_workflow
from headrace.actors.local_ray import LocalRay
from headrace.actors.spec import ClusterStatus, Deployment
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.cli.app import app
from headrace.embedded import Valkey
from headrace.workflows.descriptor import descriptor_of
from ledger import PARTITIONS, write_flow
from rig import Rig, run
from standstill import Standstill
from waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def rig(ray_cluster: LocalRay, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One worker, three nodes, one spare; all tests change the same deployment, one after the other."""
    folder = tmp_path_factory.mktemp("live")
    topics = Topics(kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    with (
        Valkey(folder=folder / "valkey") as valkey,
        Rig(folder, kafka.bootstrap, valkey.url, readings, alerts, workers=1) as rig,
    ):
        run(publish(rig))
        yield rig
    topics.remove()


async def publish(rig: Rig) -> None:
    """What `headrace` looks up of a workflow."""
    async with Store(rig.redis_url, rig.deployment.workflow) as store:
        await store.publish_workflow(descriptor_of(rig.workflow.compile(), PARTITIONS))


def typed(rig: Rig, *arguments: str, code: int = 0) -> Any:
    """What a command says, as JSON."""
    result = CliRunner().invoke(app, [*arguments, "--redis", rig.redis_url, "-o", "json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def scale(rig: Rig, *options: str) -> ClusterStatus:
    """Under load; how it runs then."""
    rig.wait_for_commits(run(rig.sequences()))
    with Standstill(rig.redis_url, rig.deployment.workflow, PARTITIONS) as watched:
        said = typed(rig, "scale", rig.deployment.workflow, *options)
        rig.wait_for_commits(run(rig.sequences()))
    print(f"\nscale {' '.join(options)}: {watched.sentence}")
    return msgspec.convert(said["status"], ClusterStatus)


def owners(status: ClusterStatus) -> list[int]:
    """How many partitions each worker has, the most first."""
    workers = [row for row in status.roles if row.role is not None and row.role.startswith("worker/")]
    return sorted((len(row.partitions) for row in workers), reverse=True)


async def change(rig: Rig, within: float = 60, **fields: Any) -> ClusterStatus:
    """Have it go over to a deployment with these fields."""
    async with Registry(rig.redis_url, connections=1) as registry:
        before = await current(registry, rig)
        after = msgspec.structs.replace(before, **fields)
        return await change_live(registry, before, after, within=timedelta(seconds=within))


async def current(registry: Registry, rig: Rig) -> Deployment:
    found = await get_deployment(registry, rig.deployment.workflow)
    assert found is not None
    return found


def test_F10_from_one_worker_to_four_and_back_under_load(rig: Rig) -> None:
    rig.ready()
    with rig.load:
        assert owners(scale(rig, "--workers", "4")) == [1, 1, 1, 1]
        assert owners(scale(rig, "--workers", "1")) == [4]
    assert typed(rig, "scale", rig.deployment.workflow, "--workers", "1")["changes"] == []

    rig.check()


def test_F10_replicas_up_and_down_under_load(rig: Rig) -> None:
    rig.ready()
    before = rig.pid("classify/0")
    with rig.load:
        status = scale(rig, "--replicas", "classify=2")
        assert [row.name for row in status.roles if row.name.startswith("classify")] == ["classify/0", "classify/1"]
        assert rig.pid("classify/0") == before, "a node that stays is not started again"
        counts = rig.role("classify/1")
        assert counts.state == "serving"
        status = scale(rig, "--replicas", "classify=1")
        assert [row.name for row in status.roles if row.name.startswith("classify")] == ["classify/0"]

    rig.check()


def test_F10_a_new_version_under_load(rig: Rig, tmp_path: Path) -> None:
    """Its file has another name, so processes of both versions can't be mistaken for each other."""
    rig.ready()
    worker = rig.pid("worker/0")
    file = write_flow(tmp_path, rig.readings, rig.alerts)
    moved = file.rename(file.with_name(f"next_{file.name}"))
    moved.write_text(f"{moved.read_text()}\n# the next version\n")
    code, _ = load_workflow(moved.name, tmp_path)
    with rig.load:
        rig.wait_for_commits(run(rig.sequences()))
        with Standstill(rig.redis_url, rig.deployment.workflow, PARTITIONS) as watched:
            status = run(change(rig, code=code))
            rig.wait_for_commits(run(rig.sequences()))
    print(f"\nnew version: {watched.sentence}")
    assert status.version == code.version
    assert rig.pid("worker/0") != worker

    rig.check()


def test_F10_a_version_that_does_not_start_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    rig.ready()
    pids = [rig.pid(name) for name in ("worker/0", "classify/0")]
    (tmp_path / "wrong_flow.py").write_text("raise RuntimeError('no such luck')\n")
    code = msgspec.structs.replace(rig.code, folder=str(tmp_path), module="wrong_flow", version="wrong")
    with rig.load:
        with pytest.raises(NotTaken, match="wrong_flow fails to import"):
            run(change(rig, within=30, code=code))
        rig.wait_for_commits(run(rig.sequences()))

    assert [rig.pid(name) for name in ("worker/0", "classify/0")] == pids
    until(lambda: rig.ready().coming == "", "what was to come is given up", within=20)
    rig.check()


def test_F10_whoever_is_killed_while_it_is_scaled(rig: Rig) -> None:
    rig.ready()
    with rig.load:
        for name, workers in (("supervisor", "3"), ("worker/0", "1"), ("classify/0", "2")):
            pid = rig.pid(name)
            rig.wait_for_commits(run(rig.sequences()))
            os.kill(pid, signal.SIGKILL)
            typed(rig, "scale", rig.deployment.workflow, "--workers", workers)
            rig.wait_for_commits(run(rig.sequences()))

    rig.check()


def test_G04_nothing_is_taken_while_it_is_paused_whoever_is_killed(rig: Rig) -> None:
    rig.ready()
    with rig.load:
        rig.wait_for_commits(run(rig.sequences()))
        said = typed(rig, "pause", rig.deployment.workflow)
        assert (said["at_rest"], said["running"]) == (True, True)
        before = run(rig.sequences())
        for name in ("worker/0", "supervisor"):
            os.kill(rig.pid(name), signal.SIGKILL)
        assert rig.ready().state == "paused"
        until(lambda: rig.ready().at_rest, "all who came after them have heard of it", within=60)
        assert run(rig.sequences()) == before

        typed(rig, "resume", rig.deployment.workflow)
        rig.wait_for_commits(before)

    rig.check()
