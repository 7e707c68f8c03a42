"""What processes have left in the store of what they count: see `publishing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.actors.store_registry import Registry
from headrace.metrics.families import Family
from headrace.sources.connection import store_errors
from headrace.workflows.keyspace import metrics_key

_families = msgspec.msgpack.Decoder(list[Family])


async def families_left(registry: Registry, workflow: str, processes: Sequence[str]) -> list[tuple[str, Family]]:
    """Process -> each family that it has left lately; of one that has left none, nothing.

    Raises:
        StoreUnavailable: The store can't be reached.
    """
    if not processes:
        return []
    with store_errors(registry.address):
        blobs: list[Any] = await registry.client.mget([metrics_key(workflow, process) for process in processes])
    return [
        (process, family)
        for process, blob in zip(processes, blobs, strict=True)
        if blob is not None
        for family in _families.decode(blob)
    ]
