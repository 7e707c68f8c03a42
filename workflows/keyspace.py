"""Which partition a key belongs to, and how the keys of a partition are named in the store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C

INBOX: Final = "inbox"
"""Name of a partition's stream of requests and messages, as in positions."""
INTERNAL: Final = "internal"
"""Name of a partition's stream of events that came from other partitions, as in positions."""
CONTROL: Final = "control"
"""The same of what people ask of its runs from outside: see `control`."""


def murmur2(data: bytes) -> int:
    """The hash of Kafka's default partitioner: 32 bits, unsigned.

    Args:
        data: The record's key, as it lies in the topic.

    Returns:
        0 to 2**32 - 1. Kafka clears the top bit before it takes the remainder; see `partition_of`.
    """
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for start in range(0, whole, 4):
        k = (int.from_bytes(data[start : start + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    if whole != length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a run's key: the same number as Kafka's default partitioner gives a record with it.

    Args:
        key: The run's key; text is taken as UTF-8.
        partitions: How many partitions the workflow (or topic) has, at least 1.
    """
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """Names of all that a partition holds: one hash tag, so that one script may touch all of it."""

    workflow: str
    partition: int

    @property
    def prefix(self) -> str:
        """What every key of the partition begins with: `hr:{orders/7}:`."""
        return f"hr:{{{self.workflow}/{self.partition}}}:"

    @property
    def head(self) -> str:
        """Hash: owner token, term, placement, sequence, torn mark, counters."""
        return f"{self.prefix}head"

    @property
    def positions(self) -> str:
        """Hash: origin -> position after what is done."""
        return f"{self.prefix}positions"

    @property
    def outbox(self) -> str:
        """Stream: one entry a commit, with all outputs of it."""
        return f"{self.prefix}outbox"

    @property
    def dead(self) -> str:
        """Stream of dead letters."""
        return f"{self.prefix}dead"

    @property
    def letters(self) -> str:
        """Hash: how many dead letters are kept, how many bytes they have, and how many were dropped."""
        return f"{self.prefix}letters"

    @property
    def parked(self) -> str:
        """Hash: ticket -> event that stands still."""
        return f"{self.prefix}parked"

    @property
    def due(self) -> str:
        """Sorted set: tickets that are the first of their queues, by when they are to go on (milliseconds)."""
        return f"{self.prefix}due"

    @property
    def timers(self) -> str:
        """Sorted set: what falls due of runs, by when (milliseconds); see `timers.Due`."""
        return f"{self.prefix}timers"

    @property
    def inbox(self) -> str:
        """Stream of requests."""
        return f"{self.prefix}inbox"

    @property
    def internal(self) -> str:
        """Stream of events that came from other partitions."""
        return f"{self.prefix}{INTERNAL}"

    @property
    def control(self) -> str:
        """Stream of what people ask of its runs from outside."""
        return f"{self.prefix}{CONTROL}"

    @property
    def channels(self) -> str:
        """Hash: name of a channel -> its capacity; `closed:<name>` -> 1."""
        return f"{self.prefix}channels"

    @property
    def changes(self) -> str:
        """Channel on which readers are told of runs whose values, status or wait have changed: JSON list of keys."""
        return f"{self.prefix}changes"

    def run(self, key: str) -> str:
        """Hash with all of a run."""
        return f"{self.prefix}run:{key}"

    @property
    def streamed(self) -> str:
        """Channel on which followers are told of entries of streams: JSON list of the run's key and the stream."""
        return f"{self.prefix}streamed"

    def streams(self, key: str) -> str:
        """Hash: what there is of a run's streams."""
        return f"{self.prefix}streams:{key}"

    def run_stream(self, key: str, name: str) -> str:
        """Stream that nodes of a run write."""
        return f"{self.prefix}stream:{key}:{name}"

    def stream(self, origin: str) -> str:
        """Stream of a channel (`channel:lines`), of requests (`inbox`), of what other partitions send (`internal`)."""
        return f"{self.prefix}{origin}"

    def credits(self, channel: str) -> str:
        """List with a token for each free place of a channel."""
        return f"{self.prefix}credits:{channel}"

    def starting(self, key: str) -> str:
        """Place in the inbox of the event that a run is about to begin with."""
        return f"{self.prefix}starting:{key}"

    def reply(self, request: str) -> str:
        """The answer to a request; the first one written stays."""
        return f"{self.prefix}reply:{request}"


def workflow_key(workflow: str) -> str:
    """Where a workflow's descriptor lies."""
    return f"hr:workflow:{workflow}"


def term_key(workflow: str) -> str:
    """Counter of a workflow's supervisors."""
    return f"hr:{{{workflow}}}:term"


def incarnation_key(workflow: str) -> str:
    """Random id of this life of a workflow: made at its first start, gone when it is removed."""
    return f"hr:{{{workflow}}}:incarnation"


def format_key(workflow: str) -> str:
    """How the workflow's keys are laid out: a `KeyFormat`."""
    return f"hr:{{{workflow}}}:format"


def audit_key(workflow: str) -> str:
    """Stream: what people have done to the workflow's data."""
    return f"hr:{{{workflow}}}:audit"


def status_prefix(workflow: str) -> str:
    """What the keys of the status documents of a workflow's processes begin with."""
    return f"hr:{{{workflow}}}:status:"


def metrics_key(workflow: str, process: str) -> str:
    """Where what a process of a workflow counts lies."""
    return f"hr:{{{workflow}}}:metrics:{process}"


def lease_key(name: str) -> str:
    """Where the lease `name` lies: its value is the holder's incarnation."""
    return f"hr:lease:{name}"
