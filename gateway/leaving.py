"""Callers that go while they wait: what is done for them is not done any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from headrace.gateway.tasks import end

_T = TypeVar("_T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What work comes to, unless the caller goes before.

    Args:
        request: The caller's; its body is read, or there is none.
        work: Cancelled once nobody waits for it.

    Raises:
        ClientDisconnect: The caller has gone.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(has_gone(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await end([task for task in (working, leaving) if not task.done()])


async def has_gone(receive: Receive) -> None:
    """Ends once the caller has gone; its body is to have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
