"""A source of a user's own counts each record once, also when workers die; its end is the workflow's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from headrace.actors.cluster import deployment_of
from headrace.actors.loading import load_workflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from ledger import FLOWS
from solo import solo
from waiting import until

COUNT = 2_000


@dataclass
class Numbers:
    """The workflow `numbers`, deployed and not started."""

    deployment: Deployment


@pytest.fixture
def numbers(tmp_path: Path, redis_url: str) -> Numbers:
    file = tmp_path / f"flow_{tmp_path.name}.py"
    file.write_text((FLOWS / "numbers.py").read_text())
    file.with_name("numbers.txt").write_text("\n".join(map(str, range(COUNT))))
    code, workflow = load_workflow(file.name, tmp_path)
    return Numbers(deployment_of(workflow.compile(fuse="all"), code, redis_url, fuse=True))


def run_of(deployment: Deployment) -> dict[str, bytes]:
    """The one run, as it is in the store now."""

    async def look() -> dict[str, bytes]:
        async with Store(deployment.redis_url, deployment.workflow, connections=1) as store:
            return await store.run(0, "")

    return asyncio.run(look())


@pytest.mark.slow
def test_G01_a_custom_source_counts_each_record_once_over_crashes(numbers: Numbers) -> None:
    for index, point in enumerate(("before:commit:3", "after:commit:3")):
        with solo(numbers, index=index, placement=index + 1, partitions=(0,), crash_at=point) as one:
            until(lambda one=one: one.crashed, f"it has crashed at {point}")

    with solo(numbers, index=2, placement=3, partitions=(0,)):
        until(lambda: run_of(numbers.deployment).get("status") == b"source closed", "the source is read to its end")

    found = msgspec.json.decode(run_of(numbers.deployment)["node:add"])
    assert found == {"count": COUNT, "total": sum(range(COUNT))}
