"""Who asks, and what they may do. Every route but those of `routes_health` is guarded, whatever it does with it.

Who asks stands in the context of the request, so that addresses and keys are the caller's own in every route, also
in one that does not think of tenants.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import Depends, Request

from headrace.actors.rates import Rate
from headrace.gateway.problems import ProblemError
from headrace.workflows.tenants import DEFAULT_TENANT

Right: TypeAlias = Literal["read", "write", "admin"]
READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
RIGHTS: Final = (READ, WRITE, ADMIN)
"""`read`: runs, results, values, streams, dead letters. `write`: events, messages, and to execute nodes. `admin`: that
and to keep what these nodes do, to end runs and to replay dead letters."""
ALL_SCOPES: Final = frozenset({ADMIN})
REALM: Final = 'Bearer realm="headrace"'
_READING: Final = ("GET", "HEAD")
_TICKETS: Final = "/streams/{stream}/tickets"
"""What makes one gives no more than a look: who may look may have one."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do."""

    tenant: str = DEFAULT_TENANT
    """Whose runs they see: never taken from what a caller writes into address or body."""
    scopes: frozenset[str] = ALL_SCOPES
    """A right for all workflows (`read`), or for one (`read:orders`)."""
    name: str = "gateway"
    """For the audit."""
    id: str = ""
    """By which they are counted; empty: nobody's credentials were asked for."""
    rate: Rate | None = None
    """How often they may ask; None: as often as the gateway says."""
    until: float | None = None
    """When their credentials end, by what these say: seconds since 1970 UTC; None: never."""

    def may(self, right: Right, workflow: str | None) -> bool:
        """Whether they have a right: to this workflow or, for None, to any."""
        held = {row.partition(":")[0] for row in self.scopes if workflow is None or _is_of(row, workflow)}
        return right in held or ADMIN in held

    def may_all(self, right: Right) -> bool:
        """Whether they have a right to all workflows, those of other tenants included."""
        return self.tenant == DEFAULT_TENANT and not self.scopes.isdisjoint({right, ADMIN})


def _is_of(scope: str, workflow: str) -> bool:
    _, colon, name = scope.partition(":")
    return not colon or name == workflow


@dataclass(frozen=True, slots=True)
class Acting:
    """For whom this process works now, and what they want."""

    principal: Principal
    right: Right


_NOBODY: Final = Acting(Principal(), READ)
_acting: Final[ContextVar[Acting]] = ContextVar("acting", default=_NOBODY)


def tenant_now() -> str:
    """The tenant of who asks."""
    return _acting.get().principal.tenant


def demand(right: Right | None = None, workflow: str | None = None) -> None:
    """Make sure that who asks has a right.

    Args:
        right: Which; by default that which the request's method needs.
        workflow: To which workflow; None: to any.

    Raises:
        ProblemError: `forbidden`.
    """
    acting = _acting.get()
    wanted = right or acting.right
    if not acting.principal.may(wanted, workflow):
        raise forbidden(wanted)


def forbidden(right: Right) -> ProblemError:
    """The problem of a credential that may not do this."""
    return ProblemError(
        "forbidden", f"this needs the scope {right!r} for this workflow",
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{right}"'}, extra={"scope": right},
    )  # fmt: skip


Authenticate: TypeAlias = Callable[[Request], Awaitable[Principal]]
"""From a request to who asks; raises `ProblemError` where that is nobody."""


async def anybody(request: Request) -> Principal:
    """No credentials are asked for: all are of the default tenant."""
    del request
    return Principal()


async def principal_of(request: Request) -> Principal:
    """Find out who asks, count the request, and look at their rights: before anything else is done."""
    reads = request.method in _READING or getattr(request.scope.get("route"), "path", "").endswith(_TICKETS)
    return await known(request, READ if reads else WRITE)


async def known(request: Request, right: Right) -> Principal:
    """Find out who asks for something that needs a right, as `principal_of` does for routes.

    Raises:
        ProblemError: It is nobody, or they ask too often, or may not.
        StoreUnavailable: That can't be looked up.
    """
    state = request.app.state
    authenticate: Authenticate = state.authenticate
    principal = await authenticate(request)
    _acting.set(Acting(principal, right))
    await state.limits.count(request, principal)
    demand(workflow=request.path_params.get("workflow"))
    return principal


Caller: TypeAlias = Annotated[Principal, Depends(principal_of)]
"""Parameter of a route: who asks."""
