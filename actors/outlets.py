"""The outlets of a worker: where the outputs of a plan's sinks go, and which of them takes which output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headrace.actors.spec import Deployment
from headrace.sources.kafka_connection import by_cluster
from headrace.sources.kafka_sink import KafkaOutput
from headrace.sources.outlet import Outlet, Portion, Refused
from headrace.workflows.commit import Output
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan


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


def make_outlets(plan: Plan, deployment: Deployment) -> tuple[list[Outlet], Callable[[Output], int]]:
    """The outlets that the sinks of a plan need, and which one (by index) takes an output."""
    for sink in plan.sinks:
        if sink.sink.kind != "kafka":
            raise HeadraceError(f"sink {sink.name}: this version can't send to a sink of kind {sink.sink.kind!r}")
    outlets: list[Outlet] = []
    index_of: dict[int, int] = {}
    for connection, sinks in by_cluster(plan.sinks, lambda row: row.sink, deployment):
        index_of.update((sink.index, len(outlets)) for sink in sinks)
        outlets.append(KafkaOutput(sinks, connection=connection))
    strays = len(outlets)
    outlets.append(Strays())

    def outlet_of(output: Output) -> int:
        return index_of.get(output.sink, strays)

    return outlets, outlet_of
