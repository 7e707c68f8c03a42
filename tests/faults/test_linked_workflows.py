"""G1: what one workflow sends to another changes its state once, whichever of them dies or is not there yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.workflows.descriptor import descriptor_of
from ledger import FLOWS
from solo import solo
from waiting import until

COUNT = 1_500


@dataclass
class Linked:
    """One of the two workflows, deployed and not started."""

    deployment: Deployment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / f"flow_{tmp_path.name}.py"
    file.write_text((FLOWS / "linked.py").read_text())
    file.with_name("orders.txt").write_text("\n".join(map(str, range(COUNT))))
    return file


def deployed(file: Path, name: str, redis_url: str) -> Linked:
    code, workflow = load_workflow(f"{file.name}:{name}", file.parent)
    plan = workflow.compile(fuse="all")
    deployment = deployment_of(plan, code, redis_url, fuse=True, incarnation="life")
    return Linked(deployment)


def publish(file: Path, name: str, redis_url: str) -> None:
    """Make the workflow known, as its first start does."""

    async def tell() -> None:
        plan = load_workflow(f"{file.name}:{name}", file.parent)[1].compile(fuse="all")
        async with Store(redis_url, name) as store:
            await store.publish_workflow(descriptor_of(plan, plan.partitions or 0))

    asyncio.run(tell())


def counted(redis_url: str, workflow: str, node: str) -> dict[str, int]:
    """Run -> events counted by a node, as it is in the store now."""

    async def look() -> dict[str, int]:
        found: dict[str, int] = {}
        async with Store(redis_url, workflow, connections=1) as store:
            for partition in range(4):
                for key in await store.run_keys(partition):
                    found[key] = msgspec.json.decode((await store.run(partition, key))[f"node:{node}"])["count"]
        return found

    return asyncio.run(look())


@pytest.mark.slow
def test_G01_what_one_workflow_sends_another_counts_once_over_crashes_of_both(file: Path, redis_url: str) -> None:
    shop, billing = deployed(file, "shop", redis_url), deployed(file, "billing", redis_url)
    wanted = dict(Counter(f"c{number % 11}" for number in range(COUNT)))
    with solo(shop, index=0, partitions=(0, 1, 2, 3), crash_at="after:commit:20") as one:
        until(lambda: one.crashed, "the shop has crashed, with nobody to send to")
    publish(file, "billing", redis_url)

    for index, point in enumerate(("before:internal-append:2", "after:internal-append:5"), start=1):
        with (
            solo(shop, index=index, placement=index + 1, partitions=(0, 1, 2, 3), crash_at=point) as sender,
            solo(billing, index=index, placement=index, partitions=(0, 1, 2), crash_at="after:commit:9"),
        ):
            until(lambda sender=sender: sender.crashed, f"the shop has crashed at {point}")
    with (
        solo(shop, index=3, placement=4, partitions=(0, 1, 2, 3)),
        solo(billing, index=3, placement=3, partitions=(0, 1, 2)),
    ):
        until(lambda: sum(counted(redis_url, "billing", "bill").values()) >= COUNT, "all orders are billed", within=40)

    assert counted(redis_url, "billing", "bill") == wanted
    assert sum(counted(redis_url, "shop", "sell").values()) == COUNT
