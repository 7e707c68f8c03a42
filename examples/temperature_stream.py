"""What goes in and what comes out of the demo's workflow: readings to Kafka, alerts from Kafka, states in the store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from temperature_cluster import Servers
from temperature_offline import States
from temperature_workflow import Reading

from headrace.actors.cluster import Cluster
from headrace.actors.store import Store
from headrace.sources.kafka_log import offset_of

STANDSTILL: Final = 60.0
"""Seconds without any progress after which the demo gives up."""
_LOOK_EVERY: Final = 0.1


@dataclass
class Flow:
    """How far it is."""

    total: int
    events: int = 0
    """Committed: they count for the states, exactly once."""
    alerts: dict[str, Any] = field(default_factory=dict)
    """By the id of the event that they are: a repeat after a crash has the same."""
    repeats: int = 0
    written: int = 0
    """Alerts that were committed; they leave for Kafka right afterwards."""
    seconds: float = 0.0
    """From the first reading sent to the last one committed."""
    problems: tuple[str, ...] = ()
    killed: str = ""
    """Which process was killed on purpose."""
    states: States = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Everything is processed and every alert has arrived."""
        return self.events >= self.total and len(self.alerts) >= self.written


OnChange = Callable[[Flow], None]


class Standstill(Exception):
    """Nothing moved for a minute."""


async def stream(
    readings: Sequence[Reading],
    where: Servers,
    cluster: Cluster,
    partitions: int,
    on_change: OnChange,
    kill: str | None,
) -> Flow:
    """Send all readings, and watch until every one is committed and every alert has come.

    Args:
        readings: In the order to send them.
        where: The servers.
        cluster: The running workflow.
        partitions: Of the topics and of the workflow.
        on_change: Called several times a second.
        kill: Role (`node` or `worker`) one of whose processes is killed with -9 half-way.

    Raises:
        Standstill: It does not go on.
    """
    flow = Flow(total=len(readings))
    began = time.monotonic()
    tasks = [asyncio.create_task(_send(readings, where)), asyncio.create_task(_listen(flow, where, partitions))]
    try:
        async with Store(where.redis_url, cluster.workflow) as store:
            await _watch(flow, tasks, store, cluster, partitions, began, on_change, kill)
            flow.states = await _states(store, partitions)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return flow


async def _send(readings: Sequence[Reading], where: Servers) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=where.bootstrap, linger_ms=5)
    await producer.start()
    try:
        for reading in readings:
            await producer.send("readings", msgspec.json.encode(reading), key=reading.sensor.encode())
    finally:
        await producer.stop()


async def _listen(flow: Flow, where: Servers, partitions: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=where.bootstrap, auto_offset_reset="earliest", group_id=None)
    consumer.assign([TopicPartition("alerts", partition) for partition in range(partitions)])
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    identity = dict(record.headers)["headrace-id"].decode()
                    flow.repeats += identity in flow.alerts
                    flow.alerts[identity] = json.loads(record.value)
    finally:
        await consumer.stop()


async def _watch(
    flow: Flow,
    tasks: Sequence[asyncio.Task[None]],
    store: Store,
    cluster: Cluster,
    partitions: int,
    began: float,
    on_change: OnChange,
    kill: str | None,
) -> None:
    moved = began
    while not flow.done:
        for task in tasks:
            if task.done():
                task.result()  # raises what went wrong
        before = (flow.events, len(flow.alerts))
        heads = [await store.head(partition) for partition in range(partitions)]
        flow.events = sum(offset_of(head.positions.get(f"readings/{number}", "0")) for number, head in enumerate(heads))
        flow.written = sum(head.outbox for head in heads)
        now = time.monotonic()
        if before != (flow.events, len(flow.alerts)):
            moved = now
        if flow.events >= flow.total and not flow.seconds:
            flow.seconds = now - began
        if now - moved > 2:
            flow.problems = await asyncio.to_thread(_problems, cluster)
        if now - moved > STANDSTILL:
            raise Standstill("\n".join(flow.problems))
        if kill and flow.events * 2 > flow.total:
            flow.killed, kill = await asyncio.to_thread(_kill, cluster, kill), None
        on_change(flow)
        await asyncio.sleep(_LOOK_EVERY)
    on_change(flow)


def _problems(cluster: Cluster) -> tuple[str, ...]:
    status = cluster.status()
    return tuple(f"{problem.where}: {problem.sentence}" for problem in status.problems) if status else ()


def _kill(cluster: Cluster, role: str) -> str:
    status = cluster.status()
    for process in status.roles if status else ():
        if process.role and process.role.startswith(role) and process.pid:
            os.kill(process.pid, signal.SIGKILL)
            return f"{process.name} (process {process.pid})"
    return ""


async def _states(store: Store, partitions: int) -> States:
    states: States = {}
    for partition in range(partitions):
        for key in await store.run_keys(partition):
            fields = await store.run(partition, key)
            states[key] = {
                name.removeprefix("node:"): json.loads(blob)
                for name, blob in fields.items()
                if name.startswith("node:")
            }
    return states
