"""Events on their way to another partition, of this workflow or of another one: what the outbox holds of them.

They are numbered where they leave, so that their destination can tell a repeat. A *way* has numbers of its own:
there is one to each partition of the same workflow, and one for each sink to another workflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from .commit import Output
from .keyspace import INTERNAL, partition_of
from .records import Headers, Records, Reentry
from .store import StoreFull

TRANSFER: Final = -2
"""`Output.sink` of an event for another partition of the same workflow."""
LINK: Final = "workflow"
"""`kind` of sinks that lead to another workflow."""
MOST_HOPS: Final = 3
"""So often an event may be sent on, as its key belongs elsewhere. Each time but the first, the key is another one."""
_FIELD: Final = "to:"
"""What fields of the head begin with that hold the last number of a way."""


class Transfer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event on its way; `Output.data` is this, encoded, and so is what the destination's stream holds."""

    partition: int
    """Destination; -1: by where it comes from, see `destination`."""
    number: int
    """On its way: 1, 2, 3 ..."""
    hops: int
    """How often it was sent on because its key belongs elsewhere."""
    source: str
    """Name of the source that it is an event of, at the destination."""
    id: str
    time: int
    """Milliseconds since 1970 UTC."""
    key: bytes | None
    """As the record has it: not the run's, which the destination takes from it (or from the value)."""
    value: bytes | None
    """As it came, in whatever format the source has."""
    headers: Headers = ()
    topic: str = ""
    reply: str | None = None
    """Channel of the gateway process that waits for an answer."""
    entry: Reentry | None = None
    """Where it enters the graph; None: where its source leads."""


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A record whose key belongs to another partition."""

    records: Records
    index: int
    source: str
    key: str
    destination: int


class Message(NamedTuple):
    """What a node sends to a run of its workflow."""

    id: str
    source: str
    """Name of the `MessageSource`."""
    key: str
    """Of the run."""
    time: int
    """Milliseconds since 1970 UTC."""
    data: bytes
    """JSON."""


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Transfer).decode


class Numbering:
    """Numbers what leaves one partition for others; the head keeps the last number of each way.

    Args:
        counters: Those of the head, as its owner found it.
    """

    def __init__(self, counters: Mapping[str, int]) -> None:
        self._last = {name: number for name, number in counters.items() if name.startswith(_FIELD)}

    def moved(self, misplaced: Iterable[Misplaced], counters: dict[str, int]) -> list[Output]:
        """Records for other partitions of the workflow, as outputs; `counters` gets the numbers to keep."""
        outputs: list[Output] = []
        for row in misplaced:
            records, index = row.records.original or row.records, row.index
            id_ = records.ids[index] if records.ids else f"{records.identity}/{records.offsets[index]}"
            transfer = Transfer(
                row.destination, self._next(str(row.destination), counters),
                1 + (records.hops[index] if records.hops else 0),
                row.source, id_, records.times[index], records.keys[index], records.values[index],
                records.headers[index] if records.headers else (), records.topic,
                records.replies[index] if records.replies else None, records.entry,
            )  # fmt: skip
            outputs.append(Output(TRANSFER, id_, row.key, transfer.time, encode(transfer)))
        return outputs

    def sent(self, messages: Iterable[Message], partitions: int, counters: dict[str, int]) -> list[Output]:
        """Messages to runs of the workflow, as outputs to their partitions; `counters` gets the numbers to keep."""
        outputs: list[Output] = []
        for row in messages:
            to = partition_of(row.key, partitions) if row.key else 0
            number = self._next(str(to), counters)
            transfer = Transfer(to, number, 0, row.source, row.id, row.time, row.key.encode() or None, row.data)
            outputs.append(Output(TRANSFER, row.id, row.key, row.time, encode(transfer)))
        return outputs

    def linked(self, output: Output, workflow: str, sink: str, source: str, counters: dict[str, int]) -> Output:
        """An output for a source of another workflow, wrapped; its id there names the workflow it comes from."""
        number = self._next(f"{sink}:", counters)
        transfer = Transfer(
            -1,
            number,
            0,
            source,
            f"{workflow}/{output.id}",
            output.time,
            output.key.encode() or None,
            output.data,
            output.headers,
        )
        return Output(output.sink, output.id, output.key, output.time, encode(transfer))

    def _next(self, way: str, counters: dict[str, int]) -> int:
        name = _FIELD + way
        number = self._last[name] = counters[name] = self._last.get(name, 0) + 1
        return number


def wrapped(output: Output) -> bytes:
    """The `Transfer` of an output to another partition, encoded."""
    assert output.data is not None
    return output.data


def unwrapped(output: Output) -> Output:
    """An output for another workflow as its sink got it."""
    transfer = decode(wrapped(output))
    return Output(output.sink, output.id, output.key, output.time, transfer.value, transfer.headers)


def as_records(entries: Iterable[tuple[str, Transfer]], sources: Mapping[str, int]) -> list[Records]:
    """Entries of an internal stream as records, those of one source (and topic) in a row together.

    Args:
        entries: Id in the stream, and event, in order.
        sources: Name -> index of each source of the workflow.
    """
    batches: list[Records] = []
    for (name, topic, entry), group in groupby(entries, key=lambda row: (row[1].source, row[1].topic, row[1].entry)):
        ids, rows = zip(*group, strict=True)
        # What a source no longer has to read is of none.
        own = -1 if entry is not None and (entry.type or entry.sink) else sources.get(name, -1)
        batches.append(
            Records(
                own, INTERNAL, list(ids), [row.time for row in rows], [row.key for row in rows],
                [row.value for row in rows], ids[-1],
                headers=[row.headers for row in rows] if any(row.headers for row in rows) else None,
                ids=[row.id for row in rows], hops=[row.hops for row in rows],
                replies=[row.reply for row in rows] if any(row.reply for row in rows) else None,
                topic=topic, unknown=name if own < 0 else "", entry=entry,
            )
        )  # fmt: skip
    return batches


def destination(partition: int, partitions: int) -> int:
    """Where another workflow takes in what comes from `partition`: it sends on, itself, what belongs elsewhere.

    Args:
        partition: Of the workflow that sends.
        partitions: Of the one that receives.
    """
    return partition % partitions


def internal_full(workflow: str, partition: int, entries: int) -> StoreFull:
    """A partition has as many events of other partitions as may lie there."""
    return StoreFull(f"partition {partition} of {workflow}", f"{entries} events of other partitions wait there")
