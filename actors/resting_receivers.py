"""Receivers of callbacks that are left alone for a while, as the processes of all gateways tell each other."""

from __future__ import annotations

import time
from typing import Any, Final

from headrace.actors.store_registry import Registry
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect

PLACE: Final = "hr:callbacks:resting"
"""Sorted set: name of a receiver, by when it may be called again (milliseconds since 1970 UTC)."""
_MOST: Final = 1000
_KEPT: Final = 3600
"""Seconds that it is kept once nothing is added."""


class RestingReceivers:
    """What lies in the store of them. That it is lost, or late, costs a few calls.

    Args:
        registry: The store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def read(self) -> dict[str, float]:
        """For how many seconds more each is left alone: 1,000 of them at most.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        client: Any = self._registry.client
        now = time.time()
        with store_errors(self._registry.address):
            rows = await client.zrange(PLACE, f"({now * 1000:.0f}", "+inf", byscore=True, offset=0, num=_MOST,
                                       withscores=True)  # fmt: skip
        return {name.decode(): until / 1000 - now for name, until in rows}

    async def rest(self, name: str, seconds: float) -> None:
        """A receiver is left alone from now on; the longest time counts.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        client: Any = self._registry.client
        now = time.time()
        with store_errors(self._registry.address), effect(Effect.CALLBACK_REST):
            await client.zremrangebyscore(PLACE, "-inf", f"{now * 1000:.0f}")
            await client.zadd(PLACE, {name: round((now + seconds) * 1000)}, gt=True)
            await client.expire(PLACE, _KEPT)

    async def is_well(self, name: str) -> None:
        """A receiver has answered: all may call it.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        client: Any = self._registry.client
        with store_errors(self._registry.address), effect(Effect.CALLBACK_REST):
            await client.zrem(PLACE, name)
