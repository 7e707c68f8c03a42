"""Sessions over WebSocket, and tickets for browsers, which send no headers with them."""

from __future__ import annotations

from typing import Any, Final

import structlog
from fastapi import APIRouter, Request, Response, WebSocket
from starlette.types import Scope

from headrace.gateway.addresses import BASE, key_of, run_address
from headrace.gateway.calls import json_response
from headrace.gateway.cors import is_welcome
from headrace.gateway.documented import answers
from headrace.gateway.gateway import Gateway, OfProcess
from headrace.gateway.parameters import Key, Name
from headrace.gateway.principal import READ, WRITE, Caller, demand, known
from headrace.gateway.problems import ProblemError, problem_of
from headrace.gateway.sessions import Asked, Session
from headrace.gateway.sse import checked_event_id
from headrace.gateway.staying import still_may
from headrace.gateway.tickets import SECONDS, SESSION, TICKET, Ticket

router = APIRouter(tags=["runs"])
sockets = APIRouter()
"""These find out themselves who asks."""
_log = structlog.get_logger(__name__)
_STREAMS: Final = 16
_LONGEST_NAME: Final = 200


@sockets.websocket(f"{BASE}/runs/{{key}}/session")
async def open_session(socket: WebSocket, name: Name, key_text: Key) -> None:
    """A session for a run; what is refused is answered by a problem document, in place of the handshake."""
    scope = dict(socket.scope)
    socket.scope["query_string"] = b""  # the server logs it, and it may have a ticket
    try:
        session = await _opened(socket, scope, name, key_text)
    except Exception as error:  # noqa: BLE001  every refusal has an answer
        problem = problem_of(error)
        if problem.code == "internal_error":
            _log.exception("request_failed", path=scope["path"])
        await socket.send_denial_response(problem.response(scope["path"]))
        return
    await socket.accept()
    await session.run()


async def _opened(socket: WebSocket, scope: Scope, name: str, key_text: str) -> Session:
    """The session, for who may have one.

    Raises:
        ProblemError: They may not, or what they ask for can't be.
        StoreUnavailable: It can't be known.
    """
    gateway: Gateway = socket.app.state.gateway
    request = _request(scope)
    origin = request.headers.get("origin")
    if origin is not None and not is_welcome(origin, request.headers.get("host", ""), gateway.settings.cors_origins):
        raise ProblemError("origin_refused", "pages of this origin may not open sessions")
    principal = await known(request, WRITE)
    demand(READ, name)
    if gateway.stopping:
        raise ProblemError("stopping", "this process is about to end")
    gateway.admit_one()
    workflow = await gateway.workflow(name)
    asked = Asked(
        workflow=workflow, key=key_of(workflow, key_text), tenant=principal.tenant, streams=_streams_of(request)
    )

    async def count() -> None:
        await socket.app.state.limits.count(_request(scope), principal)

    return Session(gateway, socket, asked, count, still_may(_request(scope), principal, READ, WRITE))


def _request(scope: Scope) -> Request:
    """The handshake as what it is (RFC 6455, section 4.1): a GET."""
    return Request({**scope, "type": "http", "method": "GET", SESSION: True})


def _streams_of(request: Request) -> dict[str, str]:
    """The streams that are asked for, each with the id of the last that the client has had."""
    names = request.query_params.getlist("stream")
    last = [text if not text else checked_event_id(text) for text in request.query_params.getlist("last_event_id")]
    if len(names) > _STREAMS or len(set(names)) < len(names) or not all(0 < len(n) <= _LONGEST_NAME for n in names):
        raise ProblemError(
            "invalid_parameter", f"stream: {_STREAMS} at most, of 1 to {_LONGEST_NAME} characters, each once"
        )
    if len(last) > len(names):
        raise ProblemError("invalid_parameter", "last_event_id: one for each stream, in the same order")
    return dict(zip(names, [*last, *[""] * (len(names) - len(last))], strict=True))


@router.post(
    f"{BASE}/runs/{{key}}/session/tickets",
    summary="Get a ticket to a session",
    responses=answers("ticket", "invalid_key", "unknown_workflow", "store_unavailable"),
)
async def post_session_ticket(gateway: OfProcess, principal: Caller, name: Name, key_text: Key) -> Response:
    """An address at which a browser may open a session for one run, without credentials, for a short time.

    The session is a WebSocket at `/v1/workflows/{workflow}/runs/{key}/session`: JSON texts, both ways. It is good for a
    minute from when it was made, and for as long as a session by it is open.
    """
    demand(READ, name)
    workflow = await gateway.workflow(name)
    run = key_of(workflow, key_text)
    home = run_address(workflow, run)
    token = await gateway.tickets.issue(Ticket(
        principal.tenant, name, key_text, "", is_session=True, caller=principal.id, rate=principal.rate, run=run,
        until=principal.until,
    ))  # fmt: skip
    document: dict[str, Any] = {
        "ticket": token, "expires_in": SECONDS, "links": {"session": f"{home}/session?{TICKET}={token}"},
    }  # fmt: skip
    return json_response(document, headers={"Cache-Control": "no-store"})
