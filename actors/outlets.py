"""The outlets of a worker: where the outputs of a plan's sinks go, and which of them takes which output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headrace.actors.inner_outlet import Address, InnerOutlet, OtherWorkflow, SameWorkflow
from headrace.actors.spec import Deployment
from headrace.actors.store import Store
from headrace.sources.custom_outlet import CustomOutlet
from headrace.sources.custom_sink import CustomSink
from headrace.sources.kafka_connection import KafkaConnection, by_cluster
from headrace.sources.kafka_sink import KafkaOutput
from headrace.sources.kafka_transactions import KafkaTransactions, Origin
from headrace.sources.outlet import Outlet, Portion, Refused
from headrace.workflows.commit import Output
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan, SinkPlan
from headrace.workflows.transfers import LINK, TRANSFER


class Strays:
    """The `Outlet` of outputs whose sink this version of the workflow does not have: all of them are refused."""

    name = "sinks of an earlier version"
    transactional = False

    async def open(self) -> None:
        """See `Outlet`."""

    async def begin(self, partition: int, last: int) -> int:
        """See `Outlet`."""
        del partition, last
        return 0

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        """Refuse them all."""
        error = "the workflow has no sink of this name any more; an earlier version wrote it"
        return [Refused(output, error) for portion in portions.values() for output in portion.outputs]

    async def drop(self, partition: int) -> None:
        """See `Outlet`."""

    async def close(self) -> None:
        """See `Outlet`."""


class Outlets(NamedTuple):
    """Where the outputs of a workflow go."""

    all: list[Outlet]
    index_of: Callable[[Output], int]
    """Which of them takes an output."""
    inner: frozenset[int]
    """Indexes of those that lead to other partitions, of this workflow or of others."""

    def counters(self) -> dict[str, int]:
        """How many sinks deliver exactly once, and how many at least once, as far as brokers have said."""
        counts = {"sinks_exactly_once": 0, "sinks_at_least_once": 0}
        for outlet in self.all:
            if isinstance(outlet, KafkaTransactions) and outlet.exactly_once:
                counts["sinks_exactly_once"] += len(outlet.sinks)
            elif isinstance(outlet, CustomOutlet):
                counts["sinks_at_least_once"] += 1
            elif isinstance(outlet, KafkaOutput) or (
                isinstance(outlet, KafkaTransactions) and outlet.exactly_once is False
            ):
                counts["sinks_at_least_once"] += len(outlet.sinks)
        return {name: count for name, count in counts.items() if count}


def make_outlets(plan: Plan, deployment: Deployment, store: Store) -> Outlets:
    """The outlets that a plan needs: for its sinks, and for events whose keys belong to other partitions."""
    index_of: dict[int, int] = {}
    outlets: list[Outlet] = []

    def inner(number: int, address: Address) -> int:
        index_of[number] = len(outlets)
        outlets.append(InnerOutlet(address, plan.name, deployment.incarnation))
        return index_of[number]

    inner_ones = {inner(TRANSFER, SameWorkflow(store, deployment.partitions))}
    kafka: list[SinkPlan] = []
    for sink in plan.sinks:
        if isinstance(sink.sink, CustomSink):
            index_of[sink.index] = len(outlets)
            outlets.append(CustomOutlet(sink))
            continue
        if sink.sink.kind == LINK:
            link = sink.sink
            address = OtherWorkflow(
                deployment.redis_url, link.workflow, link.source, sink.name, store.durable.durability
            )
            inner_ones.add(inner(sink.index, address))
            continue
        if sink.sink.kind != "kafka":
            raise HeadraceError(f"sink {sink.name}: this version can't send to a sink of kind {sink.sink.kind!r}")
        kafka.append(sink)
    for connection, of_cluster in by_cluster(kafka, lambda row: row.sink, deployment):
        for transactional in (True, False):
            sinks = [sink for sink in of_cluster if (sink.sink.delivery == "exactly-once") is transactional]
            if sinks:
                index_of.update((sink.index, len(outlets)) for sink in sinks)
                outlets.append(_kafka(sinks, connection, deployment, transactional=transactional))
    strays = len(outlets)
    outlets.append(Strays())

    def outlet_of(output: Output) -> int:
        return index_of.get(output.sink, strays)

    return Outlets(outlets, outlet_of, frozenset(inner_ones))


def _kafka(
    sinks: Sequence[SinkPlan], connection: KafkaConnection, deployment: Deployment, *, transactional: bool
) -> Outlet:
    if not transactional:
        return KafkaOutput(sinks, connection=connection)
    origin = Origin(
        workflow=deployment.workflow,
        incarnation=deployment.incarnation,
        partitions=deployment.partitions,
        durable=Durability.parse(deployment.durability).waits,
    )
    return KafkaTransactions(sinks, origin, connection=connection)
