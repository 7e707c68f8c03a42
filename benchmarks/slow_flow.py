"""A workflow whose one node is slow until a given time, then fast: for overload that drains afterwards."""

from __future__ import annotations

import time

import msgspec

from benchmarks.workload import PARTITIONS
from headrace import Context, Event, KafkaSource, Workflow

TOPIC = "bench-overload"


class Load(msgspec.Struct, frozen=True):
    """One event of the overload."""

    sensor: str
    number: int
    slow_until: int
    """Milliseconds since 1970 UTC."""
    cost: float
    """Seconds that the node takes until then."""


class Seen(msgspec.Struct):
    """Count, and a sum that shows a lost or doubled event."""

    count: int = 0
    sum: int = 0


def work(event: Event[Load], ctx: Context[Seen]) -> None:
    """Count; slowly, until it is time."""
    data = event.data
    if time.time_ns() // 1_000_000 < data.slow_until:  # the clock is this benchmark's subject: not `ctx.now`
        time.sleep(data.cost)
    ctx.state.count += 1
    ctx.state.sum += data.number


workflow = Workflow("overload", partitions=PARTITIONS)
workflow.source(KafkaSource(TOPIC, Load, key="sensor")).to(workflow.node(work))
