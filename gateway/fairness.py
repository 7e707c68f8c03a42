"""How many of a tenant wait at the same time, in one process: so that no tenant takes the places of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.gateway.problems import ProblemError


class _Answered(ExitStack):
    """What is undone once a request is over."""

    waits = False
    """It counts as one that waits."""


_answered: Final[ContextVar[_Answered | None]] = ContextVar("answered", default=None)
"""Of the request of this context."""


class WaitingOfTenants:
    """Counts who waits.

    Args:
        most: Of one tenant; 0: as many as there are places.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def count(self, tenant: str) -> int:
        """How many of a tenant wait."""
        return self._counts[tenant]

    def enter(self, tenant: str) -> Callable[[], None]:
        """One more of a tenant waits, until what is returned is called, once.

        Raises:
            ProblemError: `quota_exceeded`.
        """
        if self._most and self._counts[tenant] >= self._most:
            raise ProblemError(
                "quota_exceeded",
                f"{self._most} callers of this tenant wait in this process",
                extra={"quota": "waiting"},
            )
        self._counts[tenant] += 1

        def leave() -> None:
            self._counts[tenant] -= 1
            if not self._counts[tenant]:
                del self._counts[tenant]

        return leave

    def hold(self, tenant: str) -> None:
        """The request of this context waits, until it is over: it counts as one, however often this is said.

        Raises:
            ProblemError: `quota_exceeded`.
        """
        request = _answered.get()
        if request is not None and not request.waits:
            request.callback(self.enter(tenant))
            request.waits = True


def answering() -> ExitStack:
    """Within it a request is answered: what is held for it is given back at the end."""
    request = _Answered()
    _answered.set(request)
    return request


class Answering:
    """Middleware: what is held for a request is given back once it is over, however it ends.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        with answering():
            await self._app(scope, receive, send)
