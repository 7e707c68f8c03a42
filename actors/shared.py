"""What all partitions of a worker use together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headrace.actors.activity import Activity
from headrace.actors.clock import StoreClock
from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.formats import Formats
from headrace.actors.node_calls import NodeCalls
from headrace.actors.relay import Relay
from headrace.actors.sizing import Sizing
from headrace.actors.turns import Turns
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.sources.reader import OnProblem, Reached
from headrace.workflows.instructions import Limits, Tell
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.store import StoreContract
from headrace.workflows.tracing import Tracer

if TYPE_CHECKING:
    from headrace.actors.partition_driver import PartitionDriver


class Feed(Protocol):
    """All readers of a worker, as one."""

    async def assign(self, partition: int, positions: dict[str, str]) -> None:
        """Read on from these positions."""

    async def revoke(self, partition: int) -> None:
        """Read no longer."""

    def pull(self, partition: int, limit: int) -> list[Records]:
        """What has arrived; never waits."""
        ...

    def has_requests(self, partition: int) -> bool:
        """Whether there is something to be pulled that a caller may wait for."""
        ...

    def pull_requests(self, partition: int, limit: int) -> list[Records]:
        """That, and nothing else; never waits."""
        ...

    def pull_sent(self, partition: int, limit: int) -> list[Records]:
        """What other partitions have sent, and nothing else; never waits."""
        ...

    async def horizon(self, partition: int) -> Reached:
        """How far all sources of the partition go now; see `Reader.horizon`."""
        ...

    def pull_control(self, partition: int) -> list[Records]:
        """What is asked of runs from outside: taken whatever else is not."""
        ...

    def committed(self, partition: int, positions: dict[str, str]) -> None:
        """The store has these positions."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all partitions of a worker use together."""

    plan: Plan
    partitions: int
    worker: str
    store: StoreContract
    feed: Feed
    nodes: NodeCalls
    relay: Relay
    runners: dict[int, UnitRunner]
    """Units inside the worker."""
    formats: Formats
    clock: StoreClock
    sizing: Sizing
    activity: Activity
    metrics: WorkerMetrics
    limits: Limits
    on_problem: OnProblem
    on_lost: Callable[[PartitionDriver, str], None]
    """The partition was dropped, and why."""
    turns: Turns = field(default_factory=Turns)
    closed: ClosedNodes = field(default_factory=ClosedNodes)
    """Nodes that get no events for now."""
    noted: set[str] = field(default_factory=set)
    """Sources of which it was logged that keys arrive at other partitions than theirs."""
    tracer: Tracer | None = None
    """Begins traces, and gets those of what is committed; None: nothing is traced."""

    def tell(self, instruction: Tell) -> None:
        """Tell units what a partition asks of them beside its calls, wherever they are."""
        for unit in instruction.units:
            if unit in self.runners:
                self.runners[unit].hasten(instruction.hasten)
            else:
                self.nodes.hasten(unit, instruction.hasten)
