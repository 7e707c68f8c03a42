"""A workflow of two nodes with actors of their own, and an engine for its workers that only keeps books.

Imported by name in the shells' processes, like a user's file.
"""

from __future__ import annotations

import threading

import msgspec

from headrace.actors.engine import OnReport
from headrace.actors.spec import (
    Assign,
    Control,
    Done,
    Drain,
    EngineStatus,
    GetStatus,
    NodeMap,
    Nodes,
    Reply,
    Revoke,
    RoleSpec,
)
from headrace.sources.channel import ChannelSource
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.nodes import Node
from headrace.workflows.plan import Plan
from headrace.workflows.workflow import Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Tag(Node[Reading, None, Reading]):
    def process(self, event: Event[Reading], ctx: Context[None]) -> Reading:
        return event.data


def log_it(event: Event[Reading], ctx: Context[None]) -> None:
    pass


workflow = Workflow("two-nodes")
_readings = workflow.source(ChannelSource(Reading, capacity=10, key="sensor"))
_tag = workflow.node(Tag(), name="tag")
_readings.to(_tag)
_tag.to(workflow.node(log_it, name="log"))


class BookkeepingWorker:
    """A worker without a store: owns what it is told to own, and says so."""

    def __init__(self, spec: RoleSpec, plan: Plan, report: OnReport) -> None:
        self._lock = threading.Lock()
        self._owned: set[int] = set()
        self._nodes: NodeMap = {}
        self._drained = False

    def start(self) -> None:
        """Nothing to connect to."""

    def call(self, batch: bytes) -> bytes:
        raise NotImplementedError("workers are not called")

    def control(self, message: Control) -> Reply:
        with self._lock:
            match message:
                case Assign(partitions=partitions):
                    self._owned.update(partitions)
                case Revoke(partitions=partitions):
                    self._owned.difference_update(partitions)
                case Nodes(nodes=nodes):
                    self._nodes = nodes
                case Drain():
                    self._owned.clear()
                case GetStatus():
                    known = [address.incarnation for row in self._nodes.values() for address in row if address]
                    counters: dict[str, int | float] = {f"node/{known}": 1 for known in known}
                    return EngineStatus(partitions=tuple(sorted(self._owned)), counters=counters)
        return Done()

    def stop(self) -> None:
        """Nothing to close."""
