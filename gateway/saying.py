"""What all answers say beside their own: how the limits of their callers stand, and whether to come again elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.gateway.limits import standing_of


def said_with(scope: Scope, *, leaving: bool) -> dict[str, str]:
    """Headers of an answer, refusals included.

    Args:
        scope: Of the request.
        leaving: This process is about to end: callers are to come again by another connection.
    """
    found = standing_of(scope)
    return {**found, "Connection": "close"} if leaving else found


class Saying:
    """Middleware: each answer has these headers.

    Args:
        app: What answers.
        leaving: Whether this process is about to end.
    """

    def __init__(self, app: ASGIApp, leaving: Callable[[], bool]) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(said_with(scope, leaving=self._leaving()))
            await send(message)

        await self._app(scope, receive, telling if scope["type"] == "http" else send)
