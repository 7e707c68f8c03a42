"""A workflow whose only node is slower than its source."""

from __future__ import annotations

import time

import msgspec

from headrace import Context, Event, KafkaSource, Node, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    padding: str


class Count(msgspec.Struct):
    count: int = 0


class Work(Node[Reading, Count, None]):
    def process(self, event: Event[Reading], ctx: Context[Count]) -> None:
        ctx.state.count += 1
        until = time.perf_counter_ns() + 100_000
        while time.perf_counter_ns() < until:
            pass


workflow = Workflow("slow", partitions=4)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
readings.to(workflow.node(Work(), name="work"))
