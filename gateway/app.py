"""The gateway as an ASGI application: routes, problems, and what happens when the server starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI

from headrace.gateway import (
    routes_aliases,
    routes_callbacks,
    routes_documents,
    routes_events,
    routes_health,
    routes_letters,
    routes_nodes,
    routes_runs,
    routes_sessions,
    routes_streams,
    routes_values,
)
from headrace.gateway.authentication import Credentials
from headrace.gateway.cors import add_cors
from headrace.gateway.direct import DirectApp
from headrace.gateway.ending import on_signals
from headrace.gateway.fairness import Answering
from headrace.gateway.gateway import Gateway
from headrace.gateway.limits import Limits
from headrace.gateway.meter import Metered
from headrace.gateway.openapi import DESCRIPTION, TAGS, described, operation_id
from headrace.gateway.principal import Authenticate, anybody, principal_of
from headrace.gateway.problems import add_problems
from headrace.gateway.saying import Saying
from headrace.gateway.settings import DEFAULTS, GatewaySettings
from headrace.gateway.tickets import accepting_tickets, always
from headrace.tracing.options import Tracing

_GUARDED = (
    routes_events.router,
    routes_runs.router,
    routes_values.router,
    routes_streams.router,
    routes_nodes.router,
    routes_sessions.router,
    routes_letters.router,
    routes_documents.router,
    routes_aliases.router,
    routes_callbacks.router,
)
"""Who asks is found out before anything else is done."""


def create_app(
    redis_url: str,
    *,
    settings: GatewaySettings = DEFAULTS,
    traces: Tracing | None = None,
    authenticate: Authenticate | None = None,
) -> FastAPI:
    """The gateway over the store at `redis_url`; it connects when the server starts it.

    Args:
        redis_url: Address of the store.
        settings: Limits; host, port and processes are the server's affair.
        traces: Where spans of requests go; by default as OpenTelemetry's variables say, if they do.
        authenticate: Tells who asks; by default keys and tokens do, if `settings` ask for credentials.

    Raises:
        GatewayOptionError: An option can't be used.
        TraceOptionError: Something that a variable says can't be used.
        TracesNotInstalled: There are to be traces, but the extra `otel` is not installed.

    Examples:
        `uvicorn.run(create_app("redis://127.0.0.1:6379/0"), port=8080)`
    """
    gateway = Gateway(redis_url, settings, traces)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        try:
            with on_signals(gateway.stop_waiting, first=gateway.leave, drain=settings.drain_seconds):
                yield
        finally:
            await gateway.close()

    app = DirectApp(
        title="Headrace", version=version("headrace"), description=DESCRIPTION, lifespan=lifespan,
        redirect_slashes=False, openapi_tags=TAGS, generate_unique_id_function=operation_id,
    )  # fmt: skip
    app.state.gateway = gateway
    asks = settings.authentication == "required"
    credentials = Credentials(gateway.store, settings) if asks and authenticate is None else None
    otherwise = authenticate or credentials or anybody
    counts = always if credentials is None else credentials.counts
    app.state.authenticate = accepting_tickets(gateway.tickets, otherwise, counts)
    app.state.limits = Limits(gateway.store, settings)
    add_problems(app)
    app.include_router(routes_health.router)
    app.include_router(routes_sessions.sockets)
    for router in _GUARDED:
        app.include_router(router, dependencies=[Depends(principal_of)])
    app.add_middleware(Saying, leaving=lambda: gateway.leaving)
    app.add_middleware(Answering)
    app.add_middleware(Metered, meter=gateway.meter)
    add_cors(app, settings.cors_origins)
    described(app)
    app.begin_direct(gateway, pages=bool(settings.cors_origins))
    return app
