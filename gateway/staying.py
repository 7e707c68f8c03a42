"""Who follows for long: that their credentials still count is looked at again and again, as these may end meanwhile."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

import structlog
from fastapi import Request

from headrace.gateway.following import KEEP_ALIVE, Told
from headrace.gateway.principal import Authenticate, Principal, Right, forbidden
from headrace.workflows.store import StoreUnavailable

_log = structlog.get_logger(__name__)
Still: TypeAlias = Callable[[], Awaitable[None]]
"""Raises `ProblemError` once who asks may not any more."""
EVERY: Final = KEEP_ALIVE
"""Seconds between two looks, at least; at most twice as many, as something is told that often."""


def still_may(request: Request, principal: Principal, *rights: Right) -> Still:
    """Looks whether the credentials of a request still are what they were.

    Args:
        request: It has them.
        principal: Who that was.
        rights: That they need.
    """
    authenticate: Authenticate = request.app.state.authenticate
    workflow: str = request.path_params["workflow"]

    async def still() -> None:
        try:
            now = await authenticate(request)
        except StoreUnavailable as problem:
            _log.info("credentials_not_read", reason=problem.cause)
            return
        for right in rights:
            if now.tenant != principal.tenant or not now.may(right, workflow):
                raise forbidden(right)

    return still


async def while_known(tellings: AsyncGenerator[Told, None], still: Still) -> AsyncGenerator[Told, None]:
    """What a follower is told, as long as it may be.

    Raises:
        ProblemError: It may not be any more.
    """
    looked = time.monotonic()
    async with aclosing(tellings):
        async for told in tellings:
            if told.kind == "alive" or time.monotonic() - looked >= EVERY:
                looked = time.monotonic()
                await still()
            yield told
