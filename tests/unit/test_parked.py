"""What stands before a node that is away shows, and no longer than that."""

from __future__ import annotations

from typing import Any

from benchmarks.flow import make

from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.node_calls import NodeCalls
from headrace.actors.relay import Relay
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.workflows.calls import Call
from headrace.workflows.dispatch import Dispatch


def ignore(*_: Any) -> None:
    pass


def dispatch(unit: int, *, partition: int, events: int) -> Dispatch:
    call = Call(
        partition=partition, unit=unit, replica=0, number=1, owner="o", now=0, keys=["k"], numbers=[1], bases=[0],
        states=[None], shared=None, runs=[0] * events, nodes=[unit] * events, types=[0] * events,
        blobs=[b"1"] * events, origins=["log"], origin_of=[0] * events, offsets=list(range(events)),
        times=[0] * events,
    )  # fmt: skip
    epoch: Any = None
    return Dispatch(call, None, epoch, list(range(events)), [])


async def test_events_before_a_node_that_is_away_are_counted_until_it_is_there_or_they_are_no_longer_ours() -> None:
    plan = make("parked").compile()
    nodes = NodeCalls([(0, 0), (1, 0), (2, 0)], ignore, ignore, ignore)
    metrics, relay = WorkerMetrics(plan), Relay([], lambda _: 0, ignore, ignore)
    nodes.submit(dispatch(1, partition=0, events=3))
    nodes.submit(dispatch(1, partition=1, events=4))

    def parked(unit: str) -> float | None:
        metrics.look([], relay, {}, nodes.parked(), [], ClosedNodes())
        labels = {"unit": unit, "reason": "node unavailable"}
        return metrics.registry.get_sample_value("headrace_parked", labels)

    assert [parked("count"), parked("hot"), parked("alert")] == [0, 7, 0]
    nodes.drop(0, "o")
    assert parked("hot") == 4
    nodes._replicas[1, 0].handle = "there"
    assert parked("hot") is None
