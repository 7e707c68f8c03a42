"""How often callers may ask: each by its credential, a tenant, all together; told in the headers of the IETF's draft.

draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy: "caller";q=100;w=60` and `RateLimit: "caller";r=99;t=1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from fastapi import Request
from starlette.types import Scope

from headrace.actors.rates import Kind, Rate, Standing, take
from headrace.actors.store_registry import Registry
from headrace.gateway.idempotency import digest
from headrace.gateway.principal import Principal
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings

_TENANT: Final = "tenant"
_SAID: Final = "headrace.rate_limits"
"""Where a request's headers lie in its ASGI scope."""


class Limits:
    """The limits of one gateway.

    Args:
        store: Where they are counted, for all processes together.
        settings: What they are.
    """

    def __init__(self, store: Registry, settings: GatewaySettings) -> None:
        self._store = store
        self._tenant_text = settings.tenant_quota
        self._each = Rate.parse(settings.rate) if settings.rate else None
        self._all = Rate.parse(settings.total_rate) if settings.total_rate else None
        self._tenant = Rate.parse(settings.tenant_quota) if settings.tenant_quota else None

    async def count(self, request: Request, principal: Principal) -> None:
        """Count a request, once, also if it is handed on; where there are no limits, nothing is asked.

        Raises:
            ProblemError: `rate_limited`, `quota_exceeded`.
            StoreUnavailable: Nothing can be counted, and nothing else done.
        """
        if _SAID in request.scope:
            return
        rates: list[tuple[str, str, Rate, Kind]] = []
        own = principal.rate or self._each
        if own is not None and principal.id:
            rates.append(("caller", digest("caller", principal.id), own, Kind.BUCKET))
        if self._all is not None:
            rates.append(("all", "all", self._all, Kind.BUCKET))
        if self._tenant is not None:
            rates.append((_TENANT, digest(_TENANT, principal.tenant), self._tenant, Kind.WINDOW))
        if not rates:
            return
        allowed, standings = await take(self._store, [row[1:] for row in rates])
        request.scope[_SAID] = _headers([(name, rate) for name, _, rate, _ in rates], standings)
        if not allowed:
            wait = max(standing.wait for standing in standings)
            reached = [name for (name, *_), standing in zip(rates, standings, strict=True) if standing.wait > 0]
            after = {"Retry-After": str(max(1, math.ceil(wait)))}
            if _TENANT in reached:
                raise ProblemError(
                    "quota_exceeded", f"{self._tenant_text} requests of this tenant are used up",
                    headers=after, extra={"quota": _TENANT},
                )  # fmt: skip
            raise ProblemError(
                "rate_limited", f"too many requests; the limit reached: {', '.join(reached)}", headers=after
            )


def _headers(rates: Sequence[tuple[str, Rate]], standings: Sequence[Standing]) -> dict[str, str]:
    policies = [f'"{name}";q={rate.count};w={rate.seconds}' for name, rate in rates]
    now = [
        f'"{name}";r={standing.left};t={math.ceil(standing.full)}'
        for (name, _), standing in zip(rates, standings, strict=True)
    ]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(now)}


def standing_of(scope: Scope) -> dict[str, str]:
    """Headers that say how the limits of a request's caller stand, once it is counted."""
    said: dict[str, str] = scope.get(_SAID, {})
    return said
