"""Runs that are about to begin: a request for them is in the inbox, and its epoch is not committed yet.

A request that begins a run is noted with its place in the inbox (`request_append.lua`). Whoever was told "accepted"
may look at the run from then on, and must not hear that there is none, or how the one before it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.keyspace import INBOX, PartitionKeys
from headrace.workflows.run_streams import order_of

ACCEPTED: Final = "accepted"
"""Status of such a run."""


async def are_beginning(registry: Registry, places: Sequence[tuple[str, int, str]]) -> list[bool]:
    """Whether each of these runs is about to begin, also where one before it had the key.

    Args:
        registry: The store.
        places: Workflow, partition and key of each.

    Raises:
        StoreUnavailable: Ask again.
    """
    if not places:
        return []
    pipe: Any = registry.client.pipeline(transaction=False)
    for workflow, partition, key in places:
        keys = PartitionKeys(workflow, partition)
        # In this order: a request that is committed in between is seen as committed.
        pipe.get(keys.starting(key))
        pipe.hget(keys.positions, INBOX)
    with store_errors(registry.address):
        found: list[bytes | None] = await pipe.execute()
    return [is_beginning(mark, done) for mark, done in zip(found[::2], found[1::2], strict=True)]


def is_beginning(mark: bytes | None, done: bytes | None) -> bool:
    """Whether the request that was noted is still to be committed.

    Args:
        mark: Its id in the inbox; None: nothing is noted.
        done: Id of the last entry of the inbox that is committed; None: none is.
    """
    return mark is not None and (done is None or order_of(mark.decode()) > order_of(done.decode()))
