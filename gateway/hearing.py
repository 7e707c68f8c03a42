"""A subscription that is kept up: what is published comes in, and the connection is made anew whenever it breaks."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from headrace.sources.ear import Heard
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)

_QUIET: Final = 2.0
"""Seconds without a message after which the connection is tried, and after as many given up."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Hearing:
    """Base of who hears what is published. `_hear_once` subscribes and hears until the connection breaks.

    Args:
        address: Of the store, for errors.
        interrupted: What the log calls it when the connection has broken.
    """

    def __init__(self, address: str, interrupted: str) -> None:
        self._address = address
        self._interrupted = interrupted
        self.listening = False
        """What is published comes in."""

    async def _hear_once(self) -> None:
        """Hear until the connection breaks; always ends by an error."""
        raise NotImplementedError

    async def _hear_forever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._hear_once()
            except StoreUnavailable as problem:
                if self.listening or pause == _FIRST_PAUSE:
                    _log.warning(self._interrupted, reason=problem.cause)
            except Exception:  # noqa: BLE001  one that ended would let all wait in vain
                _log.exception(self._interrupted)
            pause = _FIRST_PAUSE if self.listening else min(2 * pause, _LONGEST_PAUSE)
            self.listening = False
            await asyncio.sleep(pause)

    async def _message(self, heard: Heard) -> dict[str, Any]:
        """The next message; after a while without one, the answer to a ping counts."""
        message: dict[str, Any] | None = await heard.get_message(timeout=_QUIET)
        if message is None:
            await heard.ping()
            message = await heard.get_message(timeout=_QUIET)
        if message is None:
            raise StoreUnavailable(self._address, f"no answer to a ping within {_QUIET:g} s")
        return message
