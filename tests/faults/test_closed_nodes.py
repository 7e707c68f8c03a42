"""G5, G10: a node whose process can't be replaced, or that is paused, holds only its own events back, in order.

Mechanism: after the epoch's deadline calls are given up, their events stand still before the node, durably; they go on
when it answers again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from cluster_rig import ClusterRig
from flows import away
from headrace.actors.pauses import end_pauses, put_pauses
from headrace.actors.spec import Pause
from headrace.actors.store_registry import Registry
from headrace.workflows.parking import Parked, decode
from rigs import Fuse

pytestmark = pytest.mark.cluster
MakeRig = Callable[[Fuse], ClusterRig]
KEYS = ("ada", "bob", "cyd")


def send(rig: ClusterRig, flow: away.Away, *words: str) -> None:
    for word in words:
        for key in KEYS:
            rig.send(flow.words, word, key=key)


async def standing(rig: ClusterRig) -> list[Parked]:
    store, found = rig._store, list[Parked]()
    for number in range(rig.partitions):
        fields = list(await store.parked_fields(number))
        found += [decode(blob) for blob in await store.parked(number, fields) if blob is not None]
    return found


def until(rig: ClusterRig, *, noted: int, stand: int, reason: str) -> None:
    """So much has left, and so much stands still."""

    async def look() -> bool:
        heads = [await rig._store.head(number) for number in range(rig.partitions)]
        rows = await standing(rig)
        return sum(head.outbox for head in heads) == noted and [row.reason for row in rows] == [reason] * stand

    rig.wait(look, f"{noted} have left, {stand} stand still: {reason}")


def kill(rig: ClusterRig, name: str) -> None:
    assert rig._cluster is not None
    status = rig._cluster.status()
    assert status is not None
    [pid] = [row.pid for row in status.roles if row.name == name and row.pid is not None]
    os.kill(pid, signal.SIGKILL)


def test_G10_events_for_a_node_that_can_not_open_stand_still_and_others_go_on(patient_rig_of: MakeRig) -> None:
    rig = patient_rig_of(None)
    flow = rig.prepare(away.flow)
    rig.start()
    try:
        send(rig, flow, "one")
        until(rig, noted=3, stand=0, reason="")

        flow.broken.touch()
        kill(rig, "book/0")
        send(rig, flow, "two", "three")
        until(rig, noted=9, stand=6, reason="unavailable")
        rig.wait(lambda: named(rig), "the status says so")
        kill(rig, "worker/0")  # whoever has the partitions next finds them so
        send(rig, flow, "four")
        until(rig, noted=12, stand=9, reason="unavailable")
    finally:
        flow.broken.unlink(missing_ok=True)

    for key in KEYS:
        assert rig.run_of(key).state(flow.book) == ["one", "two", "three", "four"]
    assert len(rig.sent(flow.noted)) == 12


async def named(rig: ClusterRig) -> bool:
    assert rig._cluster is not None
    status = rig._cluster.status()
    return status is not None and any("events stand still before node/" in row.sentence for row in status.problems)


def test_G5_events_for_a_paused_node_stand_still_whoever_ends(patient_rig_of: MakeRig) -> None:
    rig = patient_rig_of("all")
    flow = rig.prepare(away.flow)
    rig.start()
    send(rig, flow, "one")
    until(rig, noted=3, stand=0, reason="")
    name = rig.plan.name

    async def pause() -> None:
        async with Registry(rig._redis_url) as registry:
            await put_pauses(registry, name, [Pause(source="", node="book", since=time.time())])

    async def heard() -> bool:
        assert rig._cluster is not None
        status = rig._cluster.status()
        return status is not None and [row.node for row in status.paused] == ["book"] and status.at_rest

    async def resume() -> None:
        async with Registry(rig._redis_url) as registry:
            await end_pauses(registry, name, ["node:book"])

    rig._run(pause())
    rig.wait(heard, "all workers know")
    send(rig, flow, "two")
    until(rig, noted=6, stand=3, reason="paused")
    kill(rig, "worker/0")
    send(rig, flow, "three")
    until(rig, noted=9, stand=6, reason="paused")

    rig._run(resume())
    for key in KEYS:
        assert rig.run_of(key).state(flow.book) == ["one", "two", "three"]
