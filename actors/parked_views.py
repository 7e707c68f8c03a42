"""Events of a workflow that stand still, as people look at them: read from the store, whoever owns the partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.keyspace import PartitionKeys
from headrace.workflows.parking import Parked, Ticket, decode, ticket_of

_AT_ONCE: Final = 500
"""Events that are read together: each may have a megabyte."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One event that stands still."""

    partition: int
    ticket: Ticket
    event: Parked
    due: int | None
    """When it goes on: milliseconds since 1970 UTC; None: when those before it have."""


@dataclass(frozen=True, slots=True)
class StandingPage:
    """The first of them, in the order of partitions and tickets."""

    count: int
    """How many there are."""
    rows: list[Standing]


async def standing_fields(registry: Registry, keys: PartitionKeys) -> dict[str, int | None]:
    """Fields of all events of a partition that stand still; and when those are due that are the first of their queues.

    Raises:
        StoreUnavailable: Ask again.
    """
    with store_errors(registry.address):
        fields: Any = await registry.client.hkeys(keys.parked)
        due: Any = await registry.client.zrange(keys.due, 0, -1, withscores=True)
    times = {field: int(time) for field, time in due}
    return {field.decode(): times.get(field) for field in fields}


async def list_standing(
    registry: Registry, workflow: str, partitions: int, *, node: str | None = None, key: str | None = None, limit: int
) -> StandingPage:
    """What stands still of a workflow.

    Args:
        registry: The store.
        workflow: Its name.
        partitions: How many it has.
        node: Only what stands before this node.
        key: Only what is of this key.
        limit: How many are read at most.

    Raises:
        StoreUnavailable: Ask again.
    """
    found: list[tuple[int, Ticket]] = []
    due: dict[tuple[int, Ticket], int | None] = {}
    for partition in range(partitions):
        fields = await standing_fields(registry, PartitionKeys(workflow, partition))
        due.update({(partition, ticket_of(field)): time for field, time in fields.items()})
        found += [
            (partition, ticket)
            for ticket in sorted(map(ticket_of, fields))
            if (node is None or ticket.node == node) and (key is None or ticket.key == key)
        ]
    rows: list[Standing] = []
    with store_errors(registry.address):
        for partition, part in _parts(found[:limit]):
            hash_ = PartitionKeys(workflow, partition).parked
            blobs: Any = await registry.client.hmget(hash_, [ticket.field for ticket in part])
            rows += [
                Standing(partition, ticket, decode(blob), due[partition, ticket])
                for ticket, blob in zip(part, blobs, strict=True)
                if blob is not None
            ]
    return StandingPage(len(found), rows)


def _parts(found: list[tuple[int, Ticket]]) -> Iterator[tuple[int, list[Ticket]]]:
    """Tickets of one partition, some at a time."""
    for partition in dict.fromkeys(number for number, _ in found):
        tickets = [ticket for number, ticket in found if number == partition]
        for first in range(0, len(tickets), _AT_ONCE):
            yield partition, tickets[first : first + _AT_ONCE]
