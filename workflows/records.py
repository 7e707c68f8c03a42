"""Records as a source hands them over: columns, not objects (one object a record is a third of the cost)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from .parking import Parked, Ticket
    from .timers import Due

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class Reentry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something goes back to that stopped inside the workflow; see `reentry`."""

    node: str = ""
    """Name of the node that is to have it."""
    sink: str = ""
    """Name of the sink that it is a message of."""
    type: str = ""
    """What its data is, as JSON text; "": it is as its source gave it, in whatever format."""
    visits: int = 0
    """How many nodes it had been through, with the one that it stopped at; 0: not known."""
    packed: bool = False
    """It is as the sink sends it: not to be encoded again."""
    depth: int = 0
    """How many branch numbers stand at the end of its id, behind that of the source's event; see `roots_and_paths`."""
    execute: str = ""
    """The node has it out of line, `try` or `commit`; see `executing`. "": it is an event like any other."""


@dataclass(slots=True)
class Records:
    """Consecutive records of one origin (a topic partition, a split, a channel's or the inbox's stream), in order.

    All columns have the same length. `offsets` are a log's integers or a stream's ids; with `origin`
    they identify an event for ever.
    """

    source: int
    """Index of the source in the plan; -1: there is none, see `unknown`."""
    origin: str
    """Name of the log, as in `positions` and event ids: `readings/3` (topic/partition), `channel:lines`, `inbox`,
    `internal`."""
    offsets: list[int] | list[str]
    times: list[int]
    """Milliseconds since 1970 UTC: the record's timestamp, or when it was appended."""
    keys: list[bytes | None]
    values: list[bytes | None]
    """None is a tombstone."""
    after: str
    """Position to commit once all of these are done: next offset of a log, last id of a stream."""
    headers: list[Headers] | None = None
    """None: no record has headers."""
    ids: list[str] | None = None
    """Ids that the sender chose (requests, channels); None: made from origin and offset."""
    replies: list[str | None] | None = None
    """Reply channel of each request; None where no record waits for a reply."""
    positions: list[str] | None = None
    """Position after each record, of a log that counts in its own way; None: as the offsets say."""
    faults: dict[int, str] | None = None
    """Records that the source knows to be broken: index -> what is wrong with it."""
    gaps: frozenset[int] = frozenset()
    """Those of `faults` that stand for records which a log has lost."""
    topic: str = ""
    """Of a log in Kafka."""
    log: str = ""
    """`origin` with what tells this log from an earlier one of the same name: the id of a topic. "": nothing does."""

    original: Records | None = None
    """What came, where `values` were put into JSON here: dead letters keep it. None: these are what came."""
    data: list[Any] | None = None
    """Decoded data, where they were decoded here; None at `faults` and at tombstones."""
    hops: list[int] | None = None
    """How often each was sent on from a partition that its key does not belong to; None: none was."""
    unknown: str = ""
    """Name of a source that they are not to be read by. The plan does not have it (any more), and they become dead
    letters; or they have an `entry`."""
    entry: Reentry | None = None
    """Where they enter the graph; None: where their source leads."""
    standing: list[tuple[Ticket, Parked]] | None = None
    """What each was while it stood still; None: they come from where they were sent to."""
    firings: list[tuple[Due, int]] | None = None
    """What fell due and when it was to, of each; None: they are no timers and time-outs."""
    requests: list[tuple[str, str] | None] | None = None
    """Id and reply channel of the request that each came of, where `replies` with `ids` does not say it."""

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def identity(self) -> str:
        """What the ids of these events begin with: see `Event.id`."""
        return self.log or self.origin
