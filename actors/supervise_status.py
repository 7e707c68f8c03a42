"""What `headrace supervise` says of itself in the store; to be read without Ray."""

from __future__ import annotations

import msgspec

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors


class SuperviseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the process says; fades after 15 seconds."""

    cluster: str
    address: str
    host: str
    pid: int
    time: float
    """Seconds since 1970 UTC."""
    watched: tuple[str, ...]
    lost: dict[str, str]
    """Workflow -> why the last attempt failed; empty: none has failed."""
    counters: dict[str, int]


def supervise_key(cluster: str) -> str:
    """Where the status of whoever looks after a cluster lies."""
    return f"hr:supervise:{cluster}"


async def get_supervise_status(registry: Registry, cluster: str) -> SuperviseStatus | None:
    """Who looks after a cluster; None: nobody."""
    with store_errors(registry.address):
        blob = await registry.client.get(supervise_key(cluster))
    return None if blob is None else msgspec.json.decode(blob, type=SuperviseStatus)
