"""Who asks. Every route is handed one, whatever it does with it; so far all may do everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Request

DEFAULT_TENANT: Final = "default"
ALL_SCOPES: Final = frozenset({"read", "write", "operate"})
"""`read`: runs, results, dead letters. `write`: events and messages. `operate`: end runs, replay dead letters."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do."""

    tenant: str = DEFAULT_TENANT
    """Whose runs they see: never taken from what a caller writes into address or body."""
    scopes: frozenset[str] = ALL_SCOPES
    name: str = "gateway"
    """For the audit."""


Authenticate: TypeAlias = Callable[[Request], Awaitable[Principal]]
"""From a request to who asks; raises `ProblemError` where that is nobody."""


async def anybody(request: Request) -> Principal:
    """No credentials are asked for: all are of the default tenant."""
    del request
    return Principal()


async def _principal_of(request: Request) -> Principal:
    authenticate: Authenticate = request.app.state.authenticate
    return await authenticate(request)


Caller: TypeAlias = Annotated[Principal, Depends(_principal_of)]
"""Parameter of a route: who asks."""
