"""Hands events to other partitions, of this workflow or of another one; exactly once, by their numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from headrace.actors.store import Store
from headrace.sources.outlet import Portion, Refused
from headrace.sources.routing import is_cluster
from headrace.workflows import transfers
from headrace.workflows.commit import Output
from headrace.workflows.durability import Durability
from headrace.workflows.errors import HeadraceError
from headrace.workflows.store import DestinationEnded, Sender, StoreFull

T = TypeVar("T")

MOST: Final = 20_000
"""Entries that may lie in a partition's internal stream; then whoever sends there waits."""
AT_ONCE: Final = 500
"""Events in one call of the store."""
BYTES_AT_ONCE: Final = 1 << 20
_PATIENCE: Final = 5.0
"""Seconds to wait for room before it is named."""
_LOOK_AGAIN: Final = 0.05


class Address(Protocol):
    """Where events go."""

    name: str
    """Of the outlet, for people."""
    way: str
    """What is behind incarnation, workflow and partition in the name of what has numbers of its own."""
    known: bool
    """Its partitions know all senders from their first event on."""

    async def store(self) -> Store:
        """The store that they lie in."""
        ...

    async def partitions(self) -> int:
        """How many partitions there are; raises a `HeadraceError` while that can't be said."""
        ...

    async def close(self) -> None:
        """Disconnect; idempotent."""


@dataclass(slots=True)
class _Parcel:
    """Events of one partition for another one, with consecutive numbers."""

    sender: Sender
    destination: int
    first: int
    outputs: list[Output] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)

    def pieces(self) -> Iterator[tuple[int, list[bytes]]]:
        """Number of the first and events, of as many as one call of the store may have."""
        first, size = 0, 0
        for index, event in enumerate(self.events):
            size += len(event)
            if index - first == AT_ONCE or (size > BYTES_AT_ONCE and index > first):
                yield self.first + first, self.events[first:index]
                first, size = index, len(event)
        yield self.first + first, self.events[first:]


async def once_there_is_room(ask: Callable[[], Awaitable[T]], patience: float) -> T:
    """What a store answers, once it has room.

    Args:
        ask: Asks it.
        patience: Seconds to go on while it has none.

    Raises:
        StoreFull: It had none for so long.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await ask()
        except StoreFull:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_LOOK_AGAIN)


class NotSafeInCluster(HeadraceError):
    """Events for other partitions would cross from one server to another, at a level where each may lose its tail."""

    def __init__(self) -> None:
        super().__init__(
            "the store is a cluster, in which partitions lie on several servers; at durability 'fast' each of them may"
            " lose its last second by itself, and events between them would be lost or count twice."
            " Start the workflow with durability 'fsync' or 'replicas'"
        )


class InnerOutlet:
    """The `Outlet` of events for other partitions.

    Args:
        address: Where they go.
        workflow: Name of the workflow that sends.
        incarnation: Id of its present life.
    """

    transactional = False

    def __init__(self, address: Address, workflow: str, incarnation: str) -> None:
        self.name = address.name
        self._address = address
        self._workflow = workflow
        self._incarnation = incarnation

    async def open(self) -> None:
        """See `Outlet`: it connects with the first that it sends."""

    async def begin(self, partition: int, last: int) -> int:
        """See `Outlet`: destinations skip what they have."""
        del partition, last
        return 0

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        """Append them at their destinations; see `Outlet`."""
        partitions = await self._address.partitions()
        store = await self._address.store()
        if is_cluster(store.client) and not store.durable.durability.waits:
            raise NotSafeInCluster
        parcels = [row for number, portion in portions.items() for row in self._parcels(number, portion, partitions)]
        results = await asyncio.gather(*(self._deliver(store, parcel) for parcel in parcels), return_exceptions=True)
        refused: list[Refused] = []
        for parcel, result in zip(parcels, results, strict=True):
            if isinstance(result, DestinationEnded):
                refused += [Refused(output, str(result)) for output in parcel.outputs]
            elif isinstance(result, BaseException):
                raise result
        return refused

    def _parcels(self, number: int, portion: Portion, partitions: int) -> list[_Parcel]:
        way = f"{self._incarnation}/{self._workflow}/{number}{self._address.way}"
        sender = Sender(way, self._workflow, number, portion.owner, portion.through)
        parcels: dict[int, _Parcel] = {}
        for output in portion.outputs:
            event = transfers.wrapped(output)
            transfer = transfers.decode(event)
            destination = transfer.partition
            if destination < 0:
                destination = transfers.destination(number, partitions)
            parcel = parcels.get(destination)
            if parcel is None:
                parcel = parcels[destination] = _Parcel(sender, destination, transfer.number)
            parcel.outputs.append(output)
            parcel.events.append(event)
        return list(parcels.values())

    async def _deliver(self, store: Store, parcel: _Parcel) -> None:
        for first, events in parcel.pieces():
            await self._append(store, parcel, first, events)

    async def _append(self, store: Store, parcel: _Parcel, first: int, events: Sequence[bytes]) -> None:
        """Append, once there is room; where there is none for long, say so."""
        append = partial(store.append_internal, parcel.destination, parcel.sender, first, events)
        await once_there_is_room(partial(append, known=self._address.known, most=MOST), _PATIENCE)

    async def drop(self, partition: int) -> None:
        """See `Outlet`: nothing is held."""

    async def close(self) -> None:
        """See `Outlet`."""
        await self._address.close()


class SameWorkflow:
    """The other partitions of the workflow that sends.

    Args:
        store: The workflow's; not closed here.
        partitions: How many it has.
    """

    name = "other partitions"
    way = ""
    known = True

    def __init__(self, store: Store, partitions: int) -> None:
        self._store = store
        self._partitions = partitions

    async def store(self) -> Store:
        """See `Address`."""
        return self._store

    async def partitions(self) -> int:
        """See `Address`."""
        return self._partitions

    async def close(self) -> None:
        """See `Address`."""


class DestinationMissing(HeadraceError):
    """Events are for a workflow, or a source of it, that is not there (yet): they wait, and nothing else does.

    Attributes:
        workflow: Name of the workflow.
        cause: What is missing.
    """

    def __init__(self, workflow: str, cause: str) -> None:
        self.workflow = workflow
        self.cause = cause
        super().__init__(f"workflow {workflow!r} can't take them: {cause}")

    def __reduce__(self) -> tuple[type[DestinationMissing], tuple[str, str]]:
        return DestinationMissing, (self.workflow, self.cause)


class OtherWorkflow:
    """A source of another workflow, at the same server.

    Args:
        url: Address of the server.
        workflow: Name of the workflow that receives.
        source: Name of its source.
        sink: Name of the sink that sends.
        durability: What must hold for an event before its origin forgets it.
    """

    known = False

    def __init__(self, url: str, workflow: str, source: str, sink: str, durability: Durability) -> None:
        self.name = f"workflow {workflow}"
        self.way = f"/{sink}"
        self._workflow = workflow
        self._source = source
        self._store = Store(url, workflow, connections=4, durability=durability)

    async def store(self) -> Store:
        """See `Address`."""
        return self._store

    async def partitions(self) -> int:
        """See `Address`: looked up each time, as it may have been removed and deployed anew."""
        descriptor = await self._store.workflow(self._workflow)
        if descriptor is None:
            raise DestinationMissing(self._workflow, "it was never started at this store. Start or deploy it")
        source = next((row for row in descriptor.sources if row.name == self._source), None)
        if source is None or source.kind != transfers.LINK:
            own = ", ".join(row.name for row in descriptor.sources if row.kind == transfers.LINK) or "none"
            cause = f"it has no WorkflowSource of the name {self._source!r} (it has: {own}). Add it there"
            raise DestinationMissing(self._workflow, cause)
        return descriptor.partitions

    async def close(self) -> None:
        """See `Address`."""
        await self._store.close()
