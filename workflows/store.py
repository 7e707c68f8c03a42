"""The contract between a worker and what keeps a workflow's state, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import msgspec

from headrace.workflows.commit import Answer, Commit, Head, Output
from headrace.workflows.errors import HeadraceError
from headrace.workflows.node_inputs import NodeInput
from headrace.workflows.topics import TopicDescriptor
from headrace.workflows.upkeep import Upkeep

Chunk: TypeAlias = tuple[int, list[Output]]
"""Outputs of one commit that are still in the outbox: sequence of the first, and the outputs in order."""


class StoreError(HeadraceError):
    """Base of what can go wrong at the store. Made of its attributes, so that it survives pickling."""

    def __str__(self) -> str:
        return self._sentence()

    def _sentence(self) -> str:
        raise NotImplementedError


class StoreUnavailable(StoreError):
    """The store cannot be reached, or does not answer, for now. What was asked may or may not have happened.

    Ask again later: every write of the store may be repeated.

    Attributes:
        address: Host and port, without user and password.
        cause: What the connection said.
    """

    word: ClassVar[str] = "store_unreachable"
    """What the problem is called in the status and in answers."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(address, cause)
        self.address = address
        self.cause = cause

    def _sentence(self) -> str:
        return f"the store at {self.address} does not answer: {self.cause}. Check that it runs and can be reached"


class NotDurable(StoreUnavailable):
    """The store has applied a write, but it is not (yet) as durable as it has to be.

    Ask again, unchanged: what was applied is not applied twice, and waited for again. Nothing that follows
    from the write may leave before.

    Attributes:
        address: Host and port.
        cause: What is missing.
        level: The level that was not reached: `fsync`, `replicas:2`.
    """

    word: ClassVar[str] = "not_durable"

    def __init__(self, address: str, cause: str, level: str) -> None:
        super().__init__(address, cause)
        self.args = (address, cause, level)
        self.level = level

    def _sentence(self) -> str:
        return f"the store at {self.address} does not make writes durable at level {self.level}: {self.cause}"


class StoreDenied(StoreUnavailable):
    """The store refuses user or password, or does not allow the user what Headrace needs.

    Asked again all the same: secrets and rights are changed while all runs.
    """

    word: ClassVar[str] = "store_denied"

    def _sentence(self) -> str:
        return (
            f"the store at {self.address} does not let us: {self.cause}. Check user and password in its address, and"
            " what the user may do there"
        )


class StoreUnsuitable(StoreError):
    """The store answers, but state would not be safe in it as it is set up.

    Attributes:
        address: Host and port.
        cause: What is wrong with it.
        cure: What to do.
    """

    def __init__(self, address: str, cause: str, cure: str) -> None:
        super().__init__(address, cause, cure)
        self.address = address
        self.cause = cause
        self.cure = cure

    def _sentence(self) -> str:
        return f"the store at {self.address} can't be used so: {self.cause}. {self.cure}"


class StoreFull(StoreError):
    """The store takes nothing new in for now: its memory, or the quota of a stream, is used up.

    Attributes:
        what: What is full.
        cause: By which limit.
    """

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(what, cause)
        self.what = what
        self.cause = cause

    def _sentence(self) -> str:
        return f"{self.what} is full: {self.cause}. Try again once workers have caught up, or give it more room"


class StalePlacement(StoreError):
    """Somebody with a newer placement has the partition: this one must not take it.

    Attributes:
        partition: Its number.
        asked: (term, placement) of who asked.
        stored: The newest (term, placement) that has acquired it.
    """

    def __init__(self, partition: int, asked: tuple[int, int], stored: tuple[int, int]) -> None:
        super().__init__(partition, asked, stored)
        self.partition = partition
        self.asked = asked
        self.stored = stored

    def _sentence(self) -> str:
        return (
            f"partition {self.partition} was placed again: (term, placement) {self.asked} is older than "
            f"{self.stored}. Wait for the supervisor"
        )


class PartitionTorn(StoreError):
    """A commit stopped half-way in the store: the partition stands still until a person has looked.

    Attributes:
        partition: Its number.
        sequence: The commit that was applied in part.
        reason: What the store said.
    """

    def __init__(self, partition: int, sequence: str, reason: str) -> None:
        super().__init__(partition, sequence, reason)
        self.partition = partition
        self.sequence = sequence
        self.reason = reason

    def _sentence(self) -> str:
        return (
            f"partition {self.partition} is torn: commit {self.sequence} was applied in part only ({self.reason}). "
            "It stands still so that nothing is made worse. Restore it from a backup, or repair its keys and "
            "remove the field `torn` of its head"
        )


class SenderLost(StoreError):
    """Events were to be sent whose commit the store does not have: it lost its tail, or the partition has a new owner.

    Attributes:
        partition: Number of the partition that sends.
    """

    def __init__(self, partition: int) -> None:
        super().__init__(partition)
        self.partition = partition

    def _sentence(self) -> str:
        return f"partition {self.partition} has another owner or history: its events are sent by the next owner"


class TransfersMissing(StoreError):
    """Events that another partition has sent are gone: their destination has lost them after it had taken them.

    Attributes:
        partition: The destination's number.
        origin: Who sends, as the destination's hash `from` names it.
        last: Number of the last event that the destination knows of.
        first: Number of the next one that is there to send.
    """

    def __init__(self, partition: int, origin: str, last: int, first: int) -> None:
        super().__init__(partition, origin, last, first)
        self.partition = partition
        self.origin = origin
        self.last = last
        self.first = first

    def _sentence(self) -> str:
        return (
            f"partition {self.partition} knows events of {self.origin} up to number {self.last}, the next one to send"
            f" is {self.first}: its store has lost what lies between. Restore it; or, to go on without them, set the"
            f" field {self.origin!r} of its hash `from` to {self.first - 1}"
        )


class DestinationEnded(StoreError):
    """The workflow that events were sent to has ended, and takes no more.

    Its only attribute is the workflow's name.
    """

    def __init__(self, workflow: str) -> None:
        super().__init__(workflow)
        self.workflow = workflow

    def _sentence(self) -> str:
        return f"workflow {self.workflow!r} has ended and takes no more events"


class SourceDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What others than the workers need to know of a source."""

    kind: str
    """`kafka`, `channel`, `requests` ...: as the source's class says."""
    name: str
    type: str = ""
    """Name of the class of its data."""
    key: str | None = None
    """Field of the data that is the key, as JSON names it (`order.id`); None: a function, or the record's own key."""
    capacity: int | None = None
    """Places of a channel, for each partition."""
    topic: str = ""
    """Of a Kafka source that reads one by its name."""
    cluster: str = ""
    """Name of its Kafka cluster; empty: the default one."""
    computed_key: bool = False
    """A function of the user's says which run an event is for: only workers know."""
    late: str = "new-run"  # see `late.LatePolicy`
    schema: dict[str, Any] | None = None
    """JSON Schema of its data, of sources that the gateway takes in for; None: it can't check them."""


class WorkflowDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow as the gateway and the command line see it: they never import user code."""

    name: str
    partitions: int
    keyed: bool = True
    version: str = ""
    sources: tuple[SourceDescriptor, ...] = ()
    durability: str = "fast"
    """When requests and events of channels count: see `Durability`."""
    nodes: tuple[str, ...] = ()
    inputs: tuple[NodeInput, ...] = ()
    """Of the same, and of its waits."""
    id_retention: int = 24 * 3600 * 1000
    """Milliseconds that ids are known that senders have chosen."""
    topics: tuple[TopicDescriptor, ...] = ()
    """Of its Kafka sources and sinks."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A partition that sends events to others, in its present owner's hands."""

    way: str
    """What has numbers of its own: incarnation, workflow and partition (and sink, to another workflow)."""
    workflow: str
    partition: int
    owner: str
    """Token by which its commits are made."""
    outbox: int
    """Number of the last output that is sent now, in its outbox."""


class StoreContract(Upkeep, Protocol):
    """What a worker asks of a store. `MemoryStore` has the same methods, without `await`."""

    async def acquire(self, partition: int, *, term: int, placement: int, worker: str) -> Head:
        """Become the partition's owner; whoever had it is fenced from here on.

        Args:
            partition: Number of the partition.
            term: Number of the supervisor that placed it here.
            placement: Number of that supervisor's placement.
            worker: Name of the worker, for people.

        Raises:
            StalePlacement: A newer (term, placement) has acquired it.
            PartitionTorn: A commit was applied in part.
            StoreUnavailable: Ask again.
        """
        ...

    async def head(self, partition: int) -> Head:
        """A partition's head as it is now; nothing is acquired."""
        ...

    async def load(self, partition: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """The hashes of the runs with these keys, in their order; empty for a run that is not known."""
        ...

    async def parked(self, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        """Events that stand still, by the fields of their tickets, in that order; None: there is none."""
        ...

    async def timers(self, partition: int, before: int, limit: int) -> tuple[list[tuple[str, int]], int | None]:
        """What is due of runs until `before`, at most `limit`, the earliest first.

        Args:
            partition: Number of the partition.
            before: Milliseconds since 1970 UTC.
            limit: How many at most.

        Returns:
            Members of the index (see `timers.Due`) with their times, and when the next one is due that is not among
            them; None: there is none.
        """
        ...

    async def commit(self, partition: int, owner: str, commit: Commit) -> Answer:
        """Apply all of `commit`, or nothing. May be asked again, unchanged, when the answer was lost.

        Returns once it is durable at the store's level, and with it all that was written before.

        Raises:
            StoreUnavailable: Ask again; it may have been applied. As `NotDurable`: it has been, but is not durable.
        """
        ...

    async def outbox(self, partition: int, after: int, limit: int) -> list[Chunk]:
        """Outputs after the sequence `after`: whole commits, `limit` at most, fewer if large; none: no more."""
        ...

    async def trim_outbox(self, partition: int, owner: str, through: int) -> Answer:
        """Forget outputs up to the sequence `through` (delivered).

        FENCED when another owns the partition; ROLLED_BACK when the store may have lost, since it was acquired, what
        was delivered to other partitions.
        """
        ...

    async def check(self, partition: int, owner: str, sequence: int | None) -> Answer:
        """Has the store what an owner was told?

        Args:
            partition: Number of the partition.
            owner: Token of who asks.
            sequence: Of its last commit; None while one is under way.

        Returns:
            APPLIED; FENCED when another owns the partition; ROLLED_BACK when commits are gone, or the server was
            started again since the partition was acquired: what was sent from here to other partitions, and
            forgotten, may be there again, and they may not have it.
        """
        ...

    async def append_internal(
        self, partition: int, sender: Sender, first: int, events: Sequence[bytes], *, known: bool, most: int
    ) -> None:
        """Hand events to a partition, from another one. May be asked again: what it has is skipped.

        Args:
            partition: Number of the destination.
            sender: Who sends them; their numbers are consecutive.
            first: Number of the first event.
            events: What the destination's reader gets, see `transfers.Transfer`.
            known: A sender that the destination has never heard of must begin with number 1.
            most: Entries that may lie there; with so many, nothing is taken.

        Raises:
            SenderLost: The sender's commit is not in the store (any more), so nothing of it may arrive.
            TransfersMissing: The number before `first` has not arrived.
            StoreFull: It has `most` entries; ask again later.
            DestinationEnded: The run of an unkeyed workflow has ended.
        """
        ...

    async def replay(self, partition: int, letters: Sequence[tuple[str, bytes]], *, most: int) -> int:
        """Take dead letters out, and put their events where those of other partitions come in; in one step.

        Args:
            partition: Number of the partition that they lie in.
            letters: Entry of each, and its event as `append_internal` takes them; in the order that they are to have.
            most: Entries that may lie there; with so many, nothing is taken.

        Returns:
            How many of them were still there: the others are, by whomever, on their way already.

        Raises:
            StoreFull: It has `most` entries; ask again later.
            DestinationEnded: The run of an unkeyed workflow has ended.
        """
        ...
