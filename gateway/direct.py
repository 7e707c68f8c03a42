"""The ways of requests that come most often, past FastAPI: it looks for routes and parameters longer than we answer.

Only what needs no more than that goes this way: a POST without a query to one of `DIRECT`. It gets the same function,
the same guard, counts and problems as by FastAPI, which describes these routes, and takes whatever else comes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from headrace.gateway import routes_events, routes_runs
from headrace.gateway.fairness import answering
from headrace.gateway.gateway import Gateway
from headrace.gateway.principal import principal_of
from headrace.gateway.problems import ProblemError, log, problem_of
from headrace.gateway.saying import said_with

_BASE: Final = ["", "v1", "workflows"]
_BEGIN, _EVENT, _MESSAGE = 5, 7, 8
"""Parts of the paths of each."""


def _route(router: Any, endpoint: Callable[..., Awaitable[Response]]) -> APIRoute:
    found: APIRoute = next(route for route in router.routes if route.endpoint is endpoint)
    return found


_RUNS: Final = _route(routes_events.router, routes_events.post_run)
_EVENTS: Final = _route(routes_events.router, routes_events.post_event)
_MESSAGES: Final = _route(routes_runs.router, routes_runs.post_message)
DIRECT: Final = (_RUNS, _EVENTS, _MESSAGES)
"""The routes of such requests."""


class DirectApp(FastAPI):
    """An application whose frequent requests go straight to their functions, once `begin_direct` has been called."""

    _gateway: Gateway | None = None
    _pages = False

    def begin_direct(self, gateway: Gateway, *, pages: bool) -> None:
        """From now on.

        Args:
            gateway: Of this process.
            pages: Pages of other origins may ask: their requests need answers that say so.
        """
        self._gateway = gateway
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if self._gateway is not None and scope["type"] == "http" and scope["method"] == "POST":
            route = None if scope["query_string"] or scope.get("root_path") else _direct(scope)
            if route is not None and not (self._pages and _has_origin(scope)):
                await self._answer(self._gateway, route, scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def _answer(self, gateway: Gateway, route: APIRoute, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        scope["app"], scope["route"] = self, route
        request = Request(scope, receive, send)
        try:
            with answering():
                principal = await principal_of(request)
                response: Response = await route.endpoint(gateway, principal, request, *scope["path_params"].values())
        except Exception as error:  # noqa: BLE001  each becomes a problem document, as by FastAPI
            problem = problem_of(error)
            if problem.code == "internal_error" and not isinstance(error, ProblemError):
                log.exception("request_failed", path=scope["path"])
            response = problem.response(request.url.path)
        response.headers.update(said_with(scope, leaving=gateway.leaving))
        gateway.meter.answered("POST", route.path, response.status_code, time.monotonic() - began)
        await response(scope, receive, send)


def _direct(scope: Scope) -> APIRoute | None:
    """The route of a request that can go this way; its parameters are in the scope then."""
    parts = scope["path"].split("/")
    count = len(parts)
    if count < _BEGIN or parts[:3] != _BASE or parts[4] != "runs" or not all(parts[3:]):
        return None
    if count == _EVENT and parts[6] == "events":
        scope["path_params"] = {"workflow": parts[3], "key": parts[5]}
        return _EVENTS
    if count == _MESSAGE and parts[6] == "messages":
        scope["path_params"] = {"workflow": parts[3], "key": parts[5], "message": parts[7]}
        return _MESSAGES
    if count == _BEGIN:
        scope["path_params"] = {"workflow": parts[3]}
        return _RUNS
    return None


def _has_origin(scope: Scope) -> bool:
    return any(name == b"origin" for name, _ in scope["headers"])
