"""The contract between a worker and what keeps a workflow's state, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from headrace.workflows.commit import Answer, Commit, Head, Output
from headrace.workflows.errors import HeadraceError

Chunk: TypeAlias = tuple[int, list[Output]]
"""Outputs of one commit that are still in the outbox: sequence of the first, and the outputs in order."""


class StoreUnavailable(HeadraceError):
    """The store cannot be reached, or does not answer, for now. What was asked may or may not have happened.

    Ask again later: every write of the store may be repeated.
    """

    def __init__(self, address: str, cause: str) -> None:
        self.address = address
        self.cause = cause
        super().__init__(f"The store at {address} does not answer: {cause}. Check that it runs and can be reached.")


class StoreUnsuitable(HeadraceError):
    """The store answers, but state would not be safe in it as it is set up."""

    def __init__(self, address: str, cause: str, cure: str) -> None:
        self.address = address
        self.cause = cause
        self.cure = cure
        super().__init__(f"The store at {address} can't be used: {cause}. {cure}")


class StoreFull(HeadraceError):
    """The store takes nothing new in for now: its memory, or the quota of a stream, is used up."""

    def __init__(self, what: str, cause: str) -> None:
        self.what = what
        self.cause = cause
        super().__init__(f"{what} is full: {cause}. Try again once workers have caught up, or give it more room.")


class StalePlacement(HeadraceError):
    """Somebody with a newer placement has the partition: this one must not take it."""

    def __init__(self, partition: int, asked: tuple[int, int], stored: tuple[int, int]) -> None:
        self.partition = partition
        self.asked = asked
        self.stored = stored
        super().__init__(
            f"Partition {partition} was placed again: (term, placement) {asked} is older than {stored}. "
            "Wait for the supervisor."
        )


class PartitionTorn(HeadraceError):
    """A commit stopped half-way in the store: the partition stands still until a person has looked."""

    def __init__(self, partition: int, sequence: str, reason: str) -> None:
        self.partition = partition
        self.sequence = sequence
        self.reason = reason
        super().__init__(
            f"Partition {partition} is torn: commit {sequence} was applied in part only ({reason}). "
            "It stands still so that nothing is made worse. Restore it from a backup, or repair its keys and "
            "remove the field `torn` of its head."
        )


class SourceClosed(HeadraceError):
    """The source takes nothing more: it was closed, or its workflow has ended."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(f"The source {source!r} is closed: what is sent to it now would never be processed.")


class SourceDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What others than the workers need to know of a source."""

    kind: str
    """`kafka`, `channel` or `request`."""
    name: str
    type: str = ""
    """Name of the class of its data."""
    key: str | None = None
    """Field of the data that is the key; None: a function, or the record's own key."""
    capacity: int | None = None
    """Places of a channel, for each partition."""


class WorkflowDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow as the gateway and the command line see it: they never import user code."""

    name: str
    partitions: int
    keyed: bool = True
    version: str = ""
    sources: tuple[SourceDescriptor, ...] = ()


class StoreContract(Protocol):
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

    async def load(self, partition: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """The hashes of the runs with these keys, in their order; empty for a run that is not known."""

    async def commit(self, partition: int, owner: str, commit: Commit) -> Answer:
        """Apply all of `commit`, or nothing. May be asked again, unchanged, when the answer was lost."""

    async def outbox(self, partition: int, after: int, limit: int) -> list[Chunk]:
        """The outputs after the sequence `after`: whole commits, until there are `limit` of them or no more."""

    async def trim_outbox(self, partition: int, owner: str, through: int) -> Answer:
        """Forget outputs up to the sequence `through` (delivered). FENCED when another owns the partition."""


RESERVED_FIELDS = frozenset(
    {"owner", "sequence", "term", "placement", "worker", "since", "torn", "torn_reason", "outbox", "deployment"}
)
"""Fields of a head that are no counters."""


def head_of(owner: str, fields: Mapping[str, str], positions: Mapping[str, str]) -> Head:
    """A head from the text that the store keeps of it."""
    extra: dict[str, Any] = {name: value for name, value in fields.items() if name in RESERVED_FIELDS}
    return Head(
        owner=owner,
        sequence=int(fields.get("sequence", "0")),
        counters={name: int(value) for name, value in fields.items() if name not in RESERVED_FIELDS},
        outbox=int(fields.get("outbox", "0")),
        positions=dict(positions),
        extra=extra,
    )
