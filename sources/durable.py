"""Writes that count once they are durable: the script and the wait for it travel together, on one connection.

WAITAOF and WAIT speak of the last write *of their connection*. So a script that is run by `Durable.write`
must write something whenever it answers that things are as they should be, also when a repeat finds them
so (`ALREADY`): else the wait that follows would speak of something else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions

from headrace.sources.connection import Argument, Client, Script, store_errors
from headrace.sources.suitable import check_durability
from headrace.workflows.durability import Durability
from headrace.workflows.effects import Effect
from headrace.workflows.store import NotDurable, StoreUnavailable, StoreUnsuitable

WAIT_MS: Final = 2000
"""Longest wait at the server; shorter than the time within which every command is answered."""
LOOK: Final = 5.0
"""Seconds after which a write makes sure, again, that the server is still set up for the level."""


class Durable:
    """A way into one store, for writes that have to be durable at a level.

    Args:
        client: Of this process and loop.
        address: For messages.
        durability: What a write has to reach before `write` returns.
    """

    def __init__(self, client: Client, address: str, durability: Durability) -> None:
        self._client = client
        self._address = address
        self.durability = durability
        self._wait = _wait_of(durability)
        self._looked = float("-inf")

    async def look(self) -> None:
        """Make sure that the server can do it, as it is set up now.

        Raises:
            StoreUnavailable: It does not answer.
            StoreUnsuitable: It can't; says why, and what to do.
        """
        await check_durability(self._client, self._address, self.durability)
        self._looked = time.monotonic()

    async def write(self, script: Script, kind: Effect, key: str, *arguments: Argument) -> Any:
        """Run a script as the durable effect `kind`; returns its answer once all of it is durable.

        Raises:
            NotDurable: It has been run, but is not durable: ask again, unchanged.
            StoreUnavailable: The server does not answer; it may have been run.
        """
        try:
            with store_errors(self._address):
                if self._wait is None:
                    return await script.write(self._client, kind, key, *arguments)
                await self.look_now_and_then()
                answer, reached = await script.write_then(self._client, kind, self._wait, key, *arguments)
                self._check(reached)
                return answer
        except StoreUnavailable:
            self._looked = float("-inf")  # who answers next may be another server, or set up in another way
            raise

    async def look_now_and_then(self) -> None:
        """Look, unless that was done a moment ago: a server can be set up anew while it runs.

        Raises:
            NotDurable: It can't do it any more.
            StoreUnavailable: It does not answer.
        """
        if self._wait is None or time.monotonic() - self._looked < LOOK:
            return
        try:
            await self.look()
        except StoreUnsuitable as error:
            raise NotDurable(self._address, f"{error.cause}. {error.cure}", str(self.durability)) from error

    def _check(self, reached: Any) -> None:
        """Raise unless what WAIT or WAITAOF has answered is enough."""
        level = str(self.durability)
        if isinstance(reached, exceptions.ResponseError):
            raise NotDurable(self._address, str(reached), level) from reached
        if isinstance(reached, Exception):
            raise reached
        if self.durability.level == "fsync":
            if reached[0] < 1:
                raise NotDurable(self._address, f"it has not synced within {WAIT_MS / 1000:g} s", level)
        elif reached < self.durability.replicas:
            within = f"within {WAIT_MS / 1000:g} s"
            raise NotDurable(
                self._address, f"{reached} of {self.durability.replicas} replicas have acknowledged {within}", level
            )


def _wait_of(durability: Durability) -> Sequence[Argument] | None:
    if durability.level == "fsync":
        return ("WAITAOF", 1, 0, WAIT_MS)
    if durability.level == "replicas":
        return ("WAIT", durability.replicas, WAIT_MS)
    return None
