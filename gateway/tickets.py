"""Tickets: a browser's way to one stream. `EventSource` sends no headers, so an address has to be enough."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

import msgspec
from fastapi import Request

from headrace.actors.store_registry import Registry
from headrace.gateway.principal import Authenticate, Principal
from headrace.gateway.problems import ProblemError
from headrace.sources.connection import store_errors
from headrace.workflows.effects import Effect, effect

TICKET: Final = "ticket"
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


def accepting_tickets(tickets: Tickets, otherwise: Authenticate) -> Authenticate:
    """Tells who asks: for a stream, also by a ticket; else, as before."""

    async def authenticate(request: Request) -> Principal:
        token = request.query_params.get(TICKET)
        where = request.path_params
        if token is None or request.method != "GET" or "stream" not in where:
            return await otherwise(request)
        ticket = await tickets.redeem(token)
        asked = (where["workflow"], where["key"], where["stream"])
        if ticket is None or (ticket.workflow, ticket.key, ticket.stream) != asked:
            raise ProblemError("invalid_ticket", "the ticket is not good for this stream, or not any more")
        return Principal(tenant=ticket.tenant, scopes=_READ, name=TICKET)

    return authenticate
