"""A worker lets go of each partition as soon as it is drained, and says so: one that takes long holds up no other."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace import ChannelSource, Context, Event, Workflow
from headrace.actors.cluster import deployment_of
from headrace.actors.spec import CodeRef, PartitionReleased, Report, Revoke, RoleSpec, WorkerRole
from headrace.actors.worker import Worker


class PretendedDriver:
    """A partition that is drained when it is told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.drained = asyncio.Event()

    async def release(self) -> None:
        await self.drained.wait()


def keep(event: Event[str], ctx: Context) -> None:
    return None


def worker_that_tells(reports: list[Report]) -> Any:
    """A worker that is not started."""
    workflow = Workflow("w", partitions=3)
    workflow.source(ChannelSource(str, capacity=1, name="lines", key=str)).to(workflow.node(keep))
    plan = workflow.compile(fuse="all")
    deployment = deployment_of(plan, CodeRef(folder="/", module="m", version="v1"), "redis://unused", fuse=True)
    role = RoleSpec(role=WorkerRole(0), actor="a", incarnation=1, term=1, deployment=deployment)
    return Worker(role, plan, reports.append)


async def test_each_partition_is_told_of_when_it_is_released() -> None:
    reports: list[Report] = []
    worker = worker_that_tells(reports)
    drivers = [PretendedDriver(number) for number in range(3)]
    worker._drivers = {driver.number: driver for driver in drivers}

    releasing = asyncio.create_task(worker._control(Revoke(partitions=(0, 1), term=1, placement=7)))
    drivers[1].drained.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert reports == [PartitionReleased(actor="a", partition=1, placement=7)]
    assert list(worker._drivers) == [0, 2]
    assert not releasing.done()

    drivers[0].drained.set()
    await releasing

    assert reports[1:] == [PartitionReleased(actor="a", partition=0, placement=7)]
    assert list(worker._drivers) == [2]


async def test_a_partition_that_came_back_meanwhile_stays() -> None:
    worker = worker_that_tells([])
    leaving, back = PretendedDriver(0), PretendedDriver(0)
    worker._drivers = {0: leaving}

    releasing = asyncio.create_task(worker._control(Revoke(partitions=(0,), term=1, placement=7)))
    await asyncio.sleep(0)
    worker._drivers = {0: back}
    leaving.drained.set()
    await releasing

    assert worker._drivers == {0: back}
