"""Tickets: a browser's way to one stream, or session. It sends no headers there, so an address has to be enough."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec
from fastapi import Request

from headrace.actors.rates import Rate
from headrace.actors.store_registry import Registry
from headrace.gateway.principal import READ, WRITE, Authenticate, Principal
from headrace.gateway.problems import ProblemError
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect

TICKET: Final = "ticket"
SESSION: Final = "headrace.session"
"""In the ASGI scope of what opens a session."""
SECONDS: Final = 60
"""How long a ticket is good for: from when it was made, and from when its stream was last followed by it."""
_READ: Final = frozenset({"read"})


class Ticket(msgspec.Struct, frozen=True):
    """What a ticket is for."""

    tenant: str
    workflow: str
    key: str
    """As addresses have it."""
    stream: str
    """Empty for a session."""
    is_session: bool = False
    """It opens sessions, in which one may also send."""
    caller: str = ""
    """Who has got it (`Principal.id`): as whose what is sent in a session is counted, and with whose key it ends."""
    rate: Rate | None = None
    """How often they may send."""
    run: str = ""
    """Key of the run, as the store has it: by it the ticket is found if that is to be forgotten."""
    until: float | None = None
    """When the credentials end by which it was got: seconds since 1970 UTC; None: never."""


class Tickets:
    """Tickets of all processes: they lie in the store, by their hash.

    Args:
        registry: The store.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def issue(self, ticket: Ticket) -> str:
        """A new one, random.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        token = secrets.token_urlsafe(24)
        with store_errors(self._registry.address), effect(Effect.TICKET):
            await self._registry.client.set(_place(token), msgspec.json.encode(ticket), ex=SECONDS)
        return token

    async def redeem(self, token: str) -> Ticket | None:
        """What a ticket is for; it is good for another while then. None: it is not good any more, or never was.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        with store_errors(self._registry.address), effect(Effect.TICKET):
            found: Any = await self._registry.client.getex(_place(token), ex=SECONDS)
        return None if found is None else msgspec.json.decode(found, type=Ticket)


def _place(token: str) -> str:
    return f"hr:ticket:{hashlib.sha256(token.encode()).hexdigest()}"


Counts: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether the credentials of a caller still count, by its `Principal.id`."""


async def always(_: str) -> bool:
    """Nobody's credentials end before their time."""
    return True


def accepting_tickets(tickets: Tickets, otherwise: Authenticate, counts: Counts = always) -> Authenticate:
    """Tells who asks: for a stream or a session, also by a ticket; else, as before.

    Args:
        tickets: Those that there are.
        otherwise: Tells who asks by other credentials.
        counts: A ticket is good for no longer than the credentials by which it was got.
    """

    async def authenticate(request: Request) -> Principal:
        token = request.query_params.get(TICKET)
        where = request.path_params
        is_session = SESSION in request.scope
        if token is None or request.method != "GET" or not (is_session or "stream" in where):
            return await otherwise(request)
        ticket = await tickets.redeem(token)
        asked = (is_session, where["workflow"], where["key"], where.get("stream", ""))
        is_good = ticket is not None and (ticket.is_session, ticket.workflow, ticket.key, ticket.stream) == asked
        if ticket is None or not is_good or _is_over(ticket) or not await counts(ticket.caller):
            what = "session" if is_session else "stream"
            raise ProblemError("invalid_ticket", f"the ticket is not good for this {what}, or not any more")
        if is_session:
            own = frozenset(f"{right}:{ticket.workflow}" for right in (READ, WRITE))
            return Principal(tenant=ticket.tenant, scopes=own, name=TICKET, id=ticket.caller, rate=ticket.rate)
        return Principal(tenant=ticket.tenant, scopes=_READ, name=TICKET)

    return authenticate


def _is_over(ticket: Ticket) -> bool:
    return ticket.until is not None and ticket.until <= time.time()
