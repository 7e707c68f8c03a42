"""Streams that nodes write for runs: what there is, and to follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from headrace.actors.store_followed import FIRST
from headrace.gateway.addresses import BASE, key_of, partition, run_address
from headrace.gateway.calls import json_response
from headrace.gateway.documented import answers, extra
from headrace.gateway.documented_runs import ACCEPT_EVENTS, LAST_EVENT_ID
from headrace.gateway.following import StreamPlace, Told, has_had_all, page_of
from headrace.gateway.gateway import Gateway, OfProcess
from headrace.gateway.parameters import Key, Name
from headrace.gateway.principal import READ, Caller
from headrace.gateway.problems import ProblemError
from headrace.gateway.sse import ALIVE, RETRY, last_event_id, sse_event, sse_response, wants_events
from headrace.gateway.staying import Still, still_may, while_known
from headrace.gateway.tickets import SECONDS, TICKET, Ticket
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import shown_key

router = APIRouter(tags=["runs"])
StreamName = Annotated[str, Path(alias="stream", description="Name of the stream.", examples=["tokens"])]


@router.get(
    f"{BASE}/runs/{{key}}/streams/{{stream}}",
    summary="Read or follow a stream of a run",
    responses=answers(
        "stream", "followed_to_the_end", "invalid_parameter", "invalid_key", "invalid_cursor", "invalid_ticket",
        "unknown_workflow", "unknown_run", "too_many_waiting", "store_unavailable",
    ),
    openapi_extra=extra(ACCEPT_EVENTS, LAST_EVENT_ID),
)  # fmt: skip
async def get_stream(  # noqa: PLR0913, PLR0917  each is a part of the request
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key_text: Key,
    stream: StreamName,
    offset: Annotated[int, Query(description="How many values to leave out.", ge=0)] = 0,
    limit: Annotated[int, Query(description="How many values at most.", ge=1, le=1000)] = 100,
    ticket: Annotated[
        str | None, Query(description="In place of credentials.", max_length=100, examples=["u3rT0..."])
    ] = None,
) -> Response:
    """The values that count so far; with `Accept: text/event-stream` they are followed, as server-sent events.

    `value` has a value; `reset` says that what came before with this id or a higher one is void; `end`, that the run
    has ended; `error`, why nothing more is told. After `Last-Event-ID` it goes on without a gap or a repeat.
    """
    workflow = await gateway.workflow(name)
    key = key_of(workflow, key_text)
    place = StreamPlace(workflow.name, partition(workflow, key), key, stream)
    if wants_events(request):
        return await _followed(gateway, workflow, place, last_event_id(request), still_may(request, principal, READ))
    page = await page_of(gateway.follower, place, offset, limit)
    if page is None:
        raise _unknown(workflow, key)
    document = {
        "values": [msgspec.Raw(value) for value in page.values],
        "count": page.total,
        "last_event_id": None if page.last == FIRST else page.last,
        "ended": page.status,
    }
    return json_response(document, headers={"Cache-Control": "no-cache"})


async def _followed(
    gateway: Gateway, workflow: WorkflowDescriptor, place: StreamPlace, last: str | None, still: Still
) -> Response:
    """The stream as events, after what the caller has had."""
    gateway.admit_one()
    after = FIRST if last is None or not last[0].isdecimal() else last
    found = await gateway.follower.read(place, after)
    if not found.is_there:
        raise _unknown(workflow, place.key)
    if last is not None and has_had_all(found, last):
        return Response(status_code=HTTPStatus.NO_CONTENT.value)

    async def events() -> AsyncIterator[bytes]:
        yield RETRY
        try:
            # By that a ticket is good for connecting again, too.
            async for told in while_known(gateway.follower.follow(place, after), still):
                yield event_of(told, workflow, place)
        except ProblemError as problem:
            yield sse_event("error", problem_data(problem, workflow, place.key))

    return sse_response(events(), {"Content-Location": run_address(workflow, place.key)})


def event_of(told: Told, workflow: WorkflowDescriptor, place: StreamPlace) -> bytes:
    """What a follower is told, as an event."""
    match told.kind:
        case "value":
            return sse_event("value", told.value, told.id)
        case "reset":
            return sse_event("reset", msgspec.json.encode({"from": told.value.decode()}), told.id)
        case "end":
            return sse_event("end", msgspec.json.encode({"status": told.value.decode()}), told.id)
        case "gone":
            return sse_event("error", problem_data(_unknown(workflow, place.key), workflow, place.key))
        case _:
            return ALIVE


def problem_data(problem: ProblemError, workflow: WorkflowDescriptor, key: str) -> bytes:
    """A problem as the data of an event."""
    return msgspec.json.encode(problem.document(run_address(workflow, key)))


def _unknown(workflow: WorkflowDescriptor, key: str) -> ProblemError:
    where: dict[str, Any] = {"run": run_address(workflow, key)}
    return ProblemError("unknown_run", f"there is no run {shown_key(key)!r}", extra=where)


@router.post(
    f"{BASE}/runs/{{key}}/streams/{{stream}}/tickets",
    summary="Get a ticket to a stream",
    responses=answers("ticket", "invalid_key", "unknown_workflow", "store_unavailable"),
)
async def post_ticket(gateway: OfProcess, principal: Caller, name: Name, key_text: Key, stream: StreamName) -> Response:
    """An address at which a browser may follow one stream of one run, without credentials, for a short time.

    It is good for a minute from when it was made, and from when the stream was last followed by it.
    """
    workflow = await gateway.workflow(name)
    run = key_of(workflow, key_text)
    home = run_address(workflow, run)
    token = await gateway.tickets.issue(
        Ticket(principal.tenant, name, key_text, stream, caller=principal.id, run=run, until=principal.until)
    )
    address = f"{home}/streams/{quote(stream, safe='')}?{TICKET}={token}"
    document = {"ticket": token, "expires_in": SECONDS, "links": {"stream": address}}
    return json_response(document, headers={"Cache-Control": "no-store"})
