"""Dead letters of a workflow as people see them: the newest first, by page; one of them; taken out; sent back in."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from headrace.actors.audit import audit
from headrace.actors.inner_outlet import MOST, once_there_is_room
from headrace.actors.run_views import BadCursor, is_number
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.sources.connection import Script, store_errors
from headrace.workflows import reentry
from headrace.workflows.commit import DeadLetter
from headrace.workflows.effects import Effect
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.retention import CAPS
from headrace.workflows.tenants import tenant_of
from headrace.workflows.transfers import encode

AT_ONCE: Final = 100
"""Letters of a partition that are read in one step."""
_DROPPED_AT_ONCE: Final = 100
_PATIENCE: Final = 10.0
"""Seconds to wait until a workflow that has much to do takes more."""
_LAST_NUMBER: Final = (1 << 64) - 1
"""The largest second part that an entry's id may have."""

_letter: Final = msgspec.msgpack.Decoder(DeadLetter)
_DROP: Final = Script(Path(__file__).parent / "scripts" / "drop_letters.lua")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter and where it lies."""

    workflow: str
    partition: int
    entry: str
    """Id of its stream's entry: `<milliseconds>-<number>`."""
    letter: DeadLetter

    @property
    def address(self) -> str:
        """How it is named: `workflow/partition/entry`."""
        return f"{self.workflow}/{self.partition}/{self.entry}"

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands in the order of all: by time, then partition."""
        return (*_order(self.entry), self.partition)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is None does not matter."""

    reason: str | None = None
    node: str | None = None
    tenant: str | None = None
    """To whose runs their events belong."""

    def fits(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        if self.tenant not in (None, tenant_of(letter.key)):
            return False
        return self.reason in (None, letter.reason) and self.node in (None, letter.node)


class Replayed(NamedTuple):
    """What became of letters that were to be replayed. The others were gone."""

    replayed: int
    kept: int
    """They stay: see `reentry.can_go_back`."""


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list."""

    letters: list[Found]
    cursor: str | None
    """Where to go on; None: that was all."""


async def list_letters(
    registry: Registry, workflow: str, partitions: int, wanted: Filter, *, limit: int = 50, cursor: str = ""
) -> LetterPage:
    """The newest dead letters first.

    Args:
        registry: The store.
        workflow: Name of the workflow.
        partitions: How many it has.
        wanted: Which.
        limit: How many at most.
        cursor: Where the page before ended.

    Raises:
        BadCursor: That is none.
        StoreUnavailable: Ask again.
    """
    before = _parse(cursor)
    found: list[Found] = []
    async for each in _newest_first(registry, workflow, partitions, before):
        if wanted.fits(each.letter):
            found.append(each)
        if len(found) == limit:
            return LetterPage(letters=found, cursor="{}-{}.{}".format(*each.place))
    return LetterPage(letters=found, cursor=None)


def _parse(cursor: str) -> tuple[int, int, int] | None:
    if not cursor:
        return None
    entry, _, partition = cursor.partition(".")
    time, _, number = entry.partition("-")
    if not (is_number(time) and is_number(number) and is_number(partition)):
        raise BadCursor(cursor)
    return int(time), int(number), int(partition)


async def _newest_first(
    registry: Registry, workflow: str, partitions: int, before: tuple[int, int, int] | None
) -> AsyncIterator[Found]:
    """All partitions' letters, merged; each is read as far as somebody wants to see."""
    streams = [_of_partition(registry, workflow, number, before) for number in range(partitions)]
    heads: list[tuple[tuple[int, int, int], int, Found]] = []

    async def advance(number: int) -> None:
        found = await anext(streams[number], None)
        if found is not None:
            time, count, partition = found.place
            heapq.heappush(heads, ((-time, -count, -partition), number, found))

    for number in range(partitions):
        await advance(number)
    while heads:
        _, number, found = heapq.heappop(heads)
        yield found
        await advance(number)


async def _of_partition(
    registry: Registry, workflow: str, partition: int, before: tuple[int, int, int] | None
) -> AsyncIterator[Found]:
    key = PartitionKeys(workflow, partition).dead
    end = "+"
    if before is not None:
        time, number, last = before
        end = f"{'' if partition < last else '('}{time}-{number}"
    while True:
        with store_errors(registry.address):
            entries: Any = await registry.client.xrevrange(key, end, "-", count=AT_ONCE)
        for entry, fields in entries:
            letter = _letter.decode(fields[b"blob"])
            yield Found(workflow=workflow, partition=partition, entry=entry.decode(), letter=letter)
        if len(entries) < AT_ONCE:
            return
        end = f"({entries[-1][0].decode()}"


async def letters_gone(registry: Registry, workflow: str, partitions: int) -> dict[str, int]:
    """How many dead letters of a workflow were dropped, ever, by the limit that they were over.

    Raises:
        StoreUnavailable: Ask again.
    """
    total: dict[str, int] = {}
    with store_errors(registry.address):
        found = [
            await _answer(registry.client.hgetall(PartitionKeys(workflow, number).letters))
            for number in range(partitions)
        ]
    for cap in CAPS:
        count = sum(int(fields.get(f"dropped:{cap}".encode(), 0)) for fields in found)
        if count:
            total[cap] = count
    return total


async def _answer(asked: Any) -> dict[bytes, bytes]:
    """The client's types leave open whether there is something to wait for."""
    fields: dict[bytes, bytes] = await asked
    return fields


async def get_letter(registry: Registry, workflow: str, partition: int, entry: str) -> Found | None:
    """One dead letter; None where there is none.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        entries: Any = await registry.client.xrange(PartitionKeys(workflow, partition).dead, entry, entry, count=1)
    if not entries:
        return None
    ((id_, fields),) = entries  # the whole id: the second part may have been left out
    letter = _letter.decode(fields[b"blob"])
    return Found(workflow=workflow, partition=partition, entry=id_.decode(), letter=letter)


async def drop_letters(
    registry: Registry, workflow: str, places: Sequence[tuple[int, str]], *, who: str, why: str
) -> int:
    """Take letters out, for good. That it was done is written down first, in the workflow's audit stream.

    Args:
        registry: The store.
        workflow: Name of the workflow.
        places: Partition and entry of each.
        who: The person, for the audit.
        why: What was asked for, for the audit.

    Returns:
        How many were still there.

    Raises:
        StoreUnavailable: Ask again; some may be gone.
    """
    await audit(registry, workflow, "dead letters dropped", len(places), who, why)
    dropped = 0
    for number, entries in _by_partition(places).items():
        for start in range(0, len(entries), _DROPPED_AT_ONCE):
            chunk = entries[start : start + _DROPPED_AT_ONCE]
            with store_errors(registry.address):
                head = PartitionKeys(workflow, number).head
                dropped += await _DROP.write(registry.client, Effect.DEAD_DROP, head, *chunk)
    return dropped


async def replay_letters(store: Store, places: Sequence[tuple[int, str]], *, who: str, why: str) -> Replayed:
    """Send letters back to where they stopped, those of a partition in the order in which they came there.

    Each goes in one step from the dead letters to what the workflow reads, so none is lost or doubled if this is
    interrupted, or asked twice at once.

    Args:
        store: The workflow's.
        places: Partition and entry of each.
        who: The person, for the audit.
        why: What was asked for, for the audit.

    Raises:
        StoreFull: The workflow does not take them (does it run?); those before are on their way.
        DestinationEnded: The run of an unkeyed workflow has ended.
        StoreUnavailable: Ask again; some may be on their way.
    """
    await audit(store, store.workflow_name, "dead letters replayed", len(places), who, why)
    replayed = kept = 0
    for number, entries in _by_partition(places).items():
        wanted, after = set(entries), _before(min(entries, key=_order))
        while wanted:
            found = await store.dead_letters(number, after=after, limit=AT_ONCE)
            if not found:
                break
            after = found[-1][0]
            chosen = [(entry, letter) for entry, letter in found if entry in wanted]
            wanted -= {entry for entry, _ in found}
            back = [
                (entry, encode(reentry.back(letter, number))) for entry, letter in chosen if reentry.can_go_back(letter)
            ]
            kept += len(chosen) - len(back)
            if back:
                replayed += await once_there_is_room(partial(store.replay, number, back, most=MOST), _PATIENCE)
    return Replayed(replayed, kept)


def _by_partition(places: Sequence[tuple[int, str]]) -> dict[int, list[str]]:
    by_partition: dict[int, list[str]] = defaultdict(list)
    for partition, entry in places:
        by_partition[partition].append(entry)
    return by_partition


def _order(entry: str) -> tuple[int, int]:
    time, _, number = entry.partition("-")
    return int(time), int(number)


def _before(entry: str) -> str:
    """An id after which this entry is the first."""
    time, number = _order(entry)
    return f"{time}-{number - 1}" if number else f"{time - 1}-{_LAST_NUMBER}"
