"""Events for runs: to begin one, to one by its key, and many at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from headrace.actors.store_requests import Condition
from headrace.gateway.addresses import BASE, checked_key, key_of
from headrace.gateway.bodies import decode_json, key_in, read_body
from headrace.gateway.callbacks import CALLBACK_PROBLEMS
from headrace.gateway.calls import Call, send
from headrace.gateway.documented import EVENT_EXAMPLE, IDEMPOTENT, WAITING, answers, body_of, body_of_many, extra
from headrace.gateway.documented_callbacks import CALLBACK, CALLBACKS
from headrace.gateway.gateway import OfProcess, request_source
from headrace.gateway.idempotency import idempotency_key, identity_of, minted_key
from headrace.gateway.ingest import take_in
from headrace.gateway.parameters import Key, Name
from headrace.gateway.principal import WRITE, Caller
from headrace.gateway.problems import ProblemError
from headrace.gateway.sse import wants_events
from headrace.gateway.staying import still_may
from headrace.gateway.traced import traced
from headrace.gateway.turns import send_followed
from headrace.workflows.late import NEW_RUN
from headrace.workflows.records import Headers
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from headrace.workflows.tenants import shown_key

router = APIRouter(tags=["events"])

Source = Annotated[
    str | None,
    Query(
        description="Name of the RequestSource that takes it; by default the workflow's first.",
        max_length=200,
        examples=["requests"],
    ),
]
StreamOfEvent = Annotated[
    str | None,
    Query(
        description="With `Accept: text/event-stream`: the stream whose values the answer has.",
        max_length=200,
        examples=["tokens"],
    ),
]


@router.post(
    f"{BASE}/runs",
    summary="Begin a run",
    responses=answers(
        "reply", "accepted",
        "invalid_json", "too_deep", "invalid_key", "invalid_idempotency_key", "body_too_slow", "body_too_large",
        "unsupported_encoding", "invalid_data", "other_key", "no_key", "computed_key", "idempotency_key_reused",
        "unknown_workflow", "no_requests", "run_exists", "run_ended", "workflow_ended", "inbox_full",
        "too_many_waiting", "store_unavailable", "store_full", "not_durable", *CALLBACK_PROBLEMS,
    ),
    openapi_extra=extra(WAITING, IDEMPOTENT, CALLBACK, body=body_of(EVENT_EXAMPLE), callbacks=CALLBACKS),
)  # fmt: skip
async def post_run(
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key: Annotated[
        str | None,
        Query(
            description="Of the new run, where its data don't say it. By default one is made.",
            min_length=1,
            examples=["4711"],
        ),
    ] = None,
    source: Source = None,
) -> Response:
    """Begin a run with an event, and wait for the reply to it.

    The run's key is the source's key field of the data, else `?key=`, else one is made: with an Idempotency-Key always
    the same one. A key whose run is running is refused (409).
    """

    async def work(headers: Headers) -> Response:
        workflow = await gateway.workflow(name)
        port = request_source(workflow, source)
        chosen = idempotency_key(request)
        preference = gateway.preference(request)
        body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
        data = decode_json(body, gateway.settings)
        own = _own_key(workflow, port, data, key)
        condition = Condition.ANY if own is None or not workflow.keyed else Condition.NEW
        run = checked_key(minted_key(chosen, principal.tenant, name)) if own is None else own
        await (await gateway.checks(workflow, port)).check(data, len(body))
        callback = await gateway.callbacks.asked(request, workflow, run)
        identity = identity_of(chosen, (principal.tenant, name, run, "runs", port.name), body)
        return await send(gateway, Call(
            workflow=workflow, source=port, key=run, body=body, identity=identity, condition=condition,
            preference=preference, headers=(*headers, *callback), caller=request.receive,
        ))  # fmt: skip

    return await traced(gateway, request, name, work)


def _own_key(workflow: WorkflowDescriptor, source: SourceDescriptor, data: object, asked: str | None) -> str | None:
    """The key that a new run is to have; None: one is to be made."""
    if not workflow.keyed:
        return ""
    if source.computed_key:
        raise ProblemError("computed_key", f"which run it is for is computed by the workflow (source {source.name!r})")
    if source.key is None:
        return None if asked is None else checked_key(asked)
    key = key_in(data, source.key)
    if key is None:
        raise ProblemError(
            "no_key", f"the body's field {source.key!r} has no text or number",
            extra={"errors": [{"path": f"$.{source.key}", "message": "says which run it is for"}]},
        )  # fmt: skip
    if asked not in (None, key):
        raise _other_key(asked or "", source.key, key)
    return checked_key(key)


@router.post(
    f"{BASE}/runs/{{key}}/events",
    summary="Send an event to a run",
    responses=answers(
        "reply", "accepted",
        "invalid_json", "too_deep", "invalid_key", "invalid_idempotency_key", "body_too_slow", "body_too_large",
        "unsupported_encoding", "invalid_data", "other_key", "idempotency_key_reused",
        "unknown_workflow", "no_requests", "run_ended", "workflow_ended", "inbox_full", "too_many_waiting",
        "store_unavailable", "store_full", "not_durable", *CALLBACK_PROBLEMS,
    ),
    openapi_extra=extra(WAITING, IDEMPOTENT, CALLBACK, body=body_of(EVENT_EXAMPLE), callbacks=CALLBACKS),
)  # fmt: skip
async def post_event(
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key_text: Key,
    source: Source = None,
    stream: StreamOfEvent = None,
) -> Response:
    """Send an event to a run, which begins if it is not there, and wait for the reply to this event.

    With `Accept: text/event-stream` and `?stream=` the answer is what nodes write into that stream for this event, as
    they do (`value`, `reset`), and then the reply (`reply`, or `error`).
    """

    async def work(headers: Headers) -> Response:
        workflow = await gateway.workflow(name)
        port = request_source(workflow, source)
        run = key_of(workflow, key_text)
        chosen = idempotency_key(request)
        preference = gateway.preference(request)
        body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
        data = decode_json(body, gateway.settings)
        check_key(workflow, port, run, data)
        await (await gateway.checks(workflow, port)).check(data, len(body))
        callback = await gateway.callbacks.asked(request, workflow, run)
        identity = identity_of(chosen, (principal.tenant, name, run, "events", port.name), body)
        call = Call(
            workflow=workflow, source=port, key=run, body=body, identity=identity, condition=late_condition(port),
            preference=preference, headers=(*headers, *callback), caller=request.receive,
        )  # fmt: skip
        if stream is not None and wants_events(request):
            return await send_followed(gateway, call, stream, still_may(request, principal, WRITE))
        return await send(gateway, call)

    return await traced(gateway, request, name, work)


def late_condition(source: SourceDescriptor) -> Condition:
    """What must be so of the run of an event: a source may turn away what comes for runs that have ended."""
    return Condition.ANY if source.late == NEW_RUN else Condition.OPEN


def check_key(workflow: WorkflowDescriptor, source: SourceDescriptor, key: str, data: object) -> None:
    """If the body says which run it is for, that is the run in the address."""
    if not workflow.keyed or source.key is None:
        return
    own = key_in(data, source.key)
    if own != shown_key(key):
        raise _other_key(shown_key(key), source.key, own)


def _other_key(asked: str, field: str, own: str | None) -> ProblemError:
    return ProblemError("other_key", f"the address speaks of run {asked!r}, the body's field {field!r} of {own!r}")


@router.post(
    f"{BASE}/events",
    summary="Send many events",
    responses=answers(
        "ingested",
        "invalid_json", "too_deep", "invalid_cloudevent", "invalid_idempotency_key", "body_too_slow", "body_too_large",
        "too_many_events", "unsupported_encoding", "unsupported_media_type", "invalid_data", "no_key",
        "idempotency_key_reused", "unknown_workflow", "no_requests", "run_ended", "workflow_ended", "inbox_full",
        "store_unavailable", "store_full", "not_durable",
    ),
    openapi_extra=extra(IDEMPOTENT, body=body_of_many(EVENT_EXAMPLE)),
)  # fmt: skip
async def post_events(
    gateway: OfProcess, principal: Caller, request: Request, name: Name, source: Source = None
) -> Response:
    """Send events for any runs: a JSON object or array, a line each (NDJSON), or CloudEvents; none is waited for.

    Those that are wrong are listed by their index; the others are in. An event's run is the source's key field, else a
    CloudEvent's `subject`, else a new one. A CloudEvent with the same `source` and `id` is taken once.
    """

    async def work(headers: Headers) -> Response:
        return await take_in(gateway, principal, request, name, source, headers)

    return await traced(gateway, request, name, work)
