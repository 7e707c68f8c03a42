"""Runs: how they stand, what came of them, messages to them, and their end from outside."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from headrace.actors.audit import audit
from headrace.actors.run_beginning import ACCEPTED
from headrace.actors.run_control import Asking
from headrace.actors.run_heads import RunPlace, head_of
from headrace.actors.run_views import RunFilter, RunView, get_run, list_runs
from headrace.actors.store_requests import Condition
from headrace.gateway.addresses import BASE, key_of, run_address
from headrace.gateway.bodies import decode_json, read_body
from headrace.gateway.calls import Call, json_response, send
from headrace.gateway.claims import CLAIMING, claim_in
from headrace.gateway.documented import IDEMPOTENT, KNOWN, REASON_BODY, WAITING, answers, body_of, extra
from headrace.gateway.gateway import Gateway, OfProcess, message_source
from headrace.gateway.idempotency import idempotency_key, identity_of
from headrace.gateway.parameters import Cursor, Key, Limit, Name
from headrace.gateway.principal import ADMIN, Caller, Principal, demand
from headrace.gateway.problems import ProblemError
from headrace.gateway.run_documents import COMPLETED, row_document, run_document
from headrace.gateway.traced import traced
from headrace.workflows.control import TERMINATED, ControlEvent
from headrace.workflows.records import Headers
from headrace.workflows.runs import RUNNING
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import key_for, shown_key

router = APIRouter(tags=["runs"])
_READING = ("unknown_workflow", "store_unavailable")


@router.get(
    f"{BASE}/runs",
    summary="List runs",
    responses=answers("runs", "invalid_parameter", "invalid_cursor", *_READING),
)
async def get_runs(
    gateway: OfProcess,
    principal: Caller,
    name: Name,
    status: Annotated[
        str | None, Query(description="Only `running`, `completed`, `terminated`, `timed out`, ...", max_length=100)
    ] = None,
    key_prefix: Annotated[str, Query(description="Only those whose keys begin so.", max_length=1024)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """List runs, in no order. A page may have fewer than `limit`, also none, and a `cursor` all the same: go on.

    Ended ones are kept for as long as the workflow's `retention=` says: a day, if nothing.
    """
    workflow = await gateway.workflow(name)
    own = key_for(principal.tenant, key_prefix)
    wanted = RunFilter(status=status, key_prefix=own, tenant=principal.tenant)
    page = await list_runs(gateway.store, workflow.name, wanted, limit=limit, cursor=cursor)
    return json_response({"runs": [row_document(workflow, row) for row in page.runs], "cursor": page.cursor})


@router.get(
    f"{BASE}/runs/{{key}}",
    summary="Look at a run",
    responses=answers("run", "unchanged", "invalid_key", "unknown_run", "too_many_waiting", *_READING),
    openapi_extra=extra(KNOWN, WAITING),
)
async def get_one_run(gateway: OfProcess, principal: Caller, request: Request, name: Name, key_text: Key) -> Response:
    """How a run stands: status, the wait that it stands at, how it ended. Waits for its next step, if asked to.

    From the answer to the request that begins it on there is one: `accepted`, with number 0, until the request is done.
    """
    del principal
    workflow = await gateway.workflow(name)
    run = await _run(gateway, workflow, key_of(workflow, key_text))
    headers: dict[str, str] = {}
    known = [text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")]
    if _etag(run) in known and "prefer" in request.headers:
        preference = gateway.preference(request)
        if preference.applied is not None and preference.wait:
            headers["Preference-Applied"] = preference.applied
            place = RunPlace(workflow.name, run.partition, run.key)
            await gateway.watcher.until_changed(place, head_of(run).version, preference.wait)
            run = await _run(gateway, workflow, run.key)
    headers["ETag"] = _etag(run)
    headers["Cache-Control"] = "no-cache"
    if _etag(run) in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED.value, headers=headers)
    return json_response(run_document(workflow, run), headers=headers)


@router.get(
    f"{BASE}/runs/{{key}}/result",
    summary="The result of a run",
    responses=answers("result", "running", "invalid_key", "unknown_run", "run_not_completed", *_READING),
)
async def get_result(gateway: OfProcess, principal: Caller, name: Name, key_text: Key) -> Response:
    """The bare result of a completed run; 202 while it runs. A run that ended otherwise has none (409, with why)."""
    del principal
    workflow = await gateway.workflow(name)
    run = await _run(gateway, workflow, key_of(workflow, key_text))
    home = run_address(workflow, run.key)
    if run.status in (ACCEPTED, RUNNING):
        headers = {"Location": home, "Retry-After": "1"}
        return json_response(run_document(workflow, run), HTTPStatus.ACCEPTED, headers)
    if run.status != COMPLETED:
        raise ProblemError(
            "run_not_completed", f"run {shown_key(run.key)!r} has ended: {run.status}",
            extra={"run": home, "run_status": run.status, "reason": run.result},
        )  # fmt: skip
    return json_response(msgspec.Raw(b"null") if run.result is None else run.result, headers={"Content-Location": home})


@router.post(
    f"{BASE}/runs/{{key}}/messages/{{message}}",
    summary="Send a message to a run",
    responses=answers(
        "reply", "accepted",
        "invalid_json", "too_deep", "invalid_key", "invalid_idempotency_key", "invalid_wait", "body_too_slow",
        "body_too_large", "unsupported_encoding", "invalid_data", "idempotency_key_reused", "unknown_workflow",
        "unknown_message", "unknown_run", "run_ended", "wait_taken", "workflow_ended", "inbox_full",
        "too_many_waiting", "store_unavailable", "store_full", "not_durable",
    ),
    openapi_extra=extra(WAITING, IDEMPOTENT, CLAIMING, body=body_of({"approved": True, "by": "ann"})),
)  # fmt: skip
async def post_message(
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key_text: Key,
    message: Annotated[str, Path(description="Name of the `MessageSource`.", examples=["approval"])],
) -> Response:
    """Send a message to a run that is there, for a wait on that name; it is kept until the run gets to it.

    Without `Prefer: wait=<seconds>` it is answered at once (202). The Idempotency-Key is the message's id: sent again
    it is delivered once. With `If-Match: "<id>"`, the `id` of the `wait` that the run stands at, it is for that one:
    of all that name it one goes on, the others are refused (409 `wait_taken`), and none is left for the next wait.
    """

    async def work(headers: Headers) -> Response:
        workflow = await gateway.workflow(name)
        source = message_source(workflow, message)
        run = key_of(workflow, key_text)
        chosen = idempotency_key(request)
        preference = gateway.preference(request)
        if preference.applied is None:
            preference = preference.at_once()
        body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
        data = decode_json(body, gateway.settings)
        await (await gateway.checks(workflow, source)).check(data, len(body))
        identity = identity_of(chosen, (principal.tenant, name, run, "messages", source.name), body)
        return await send(gateway, Call(
            workflow=workflow, source=source, key=run, body=body, identity=identity, condition=Condition.RUNNING,
            preference=preference, headers=headers, claim=claim_in(request),
        ))  # fmt: skip

    return await traced(gateway, request, name, work)


@router.post(
    f"{BASE}/runs/{{key}}/terminate",
    summary="End a run",
    responses=answers(
        "run", "terminating", "invalid_json", "invalid_data", "invalid_key", "body_too_slow", "body_too_large",
        "unknown_run", "run_starting", "run_ended", "workflow_ended", "too_many_waiting", "store_full", *_READING,
    ),
    openapi_extra=extra(WAITING, body=REASON_BODY),
)  # fmt: skip
async def post_terminate(
    gateway: OfProcess, principal: Caller, request: Request, name: Name, key_text: Key
) -> Response:
    """End a run as soon as what is under way of it is done; events of it that stand still are no more.

    What was committed before still leaves, nothing else does. A run that was terminated before is answered the same.
    """
    demand(ADMIN, name)
    workflow = await gateway.workflow(name)
    preference = gateway.preference(request)
    reason = await _reason(gateway, request)
    run = await _run(gateway, workflow, key_of(workflow, key_text))
    home = run_address(workflow, run.key)
    if run.status == ACCEPTED:
        raise ProblemError("run_starting", f"run {shown_key(run.key)!r} is about to begin", extra={"run": home})
    if run.status == RUNNING:
        run, done = await _terminate(gateway, principal, workflow, run, reason, preference.wait)
        if not done:
            headers = {"Location": home, "Retry-After": "1"}
            return json_response(run_document(workflow, run), HTTPStatus.ACCEPTED, headers)
    if run.status != TERMINATED:
        raise ProblemError(
            "run_ended",
            f"run {shown_key(run.key)!r} has ended: {run.status}",
            extra={"run": home, "run_status": run.status},
        )
    return json_response(run_document(workflow, run), headers={"ETag": _etag(run), "Content-Location": home})


async def _reason(gateway: Gateway, request: Request) -> Any:
    body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
    if not body.strip():
        return None
    data = decode_json(body, gateway.settings)
    if not isinstance(data, dict) or data.keys() - {"reason"}:
        raise ProblemError("invalid_data", 'the body is {"reason": ...}, or nothing')
    return data.get("reason")


async def _terminate(
    gateway: Gateway, principal: Principal, workflow: WorkflowDescriptor, run: RunView, reason: Any, wait: float
) -> tuple[RunView, bool]:
    """The run afterwards, and whether what was asked is done."""
    await audit(gateway.store, workflow.name, "runs terminated", 1, principal.name, "by request")
    text = msgspec.json.encode(reason).decode()
    number = run.number if workflow.keyed else 0
    async with gateway.partitions(workflow) as store:
        asking = Asking(store)
        await asking.ask({run.partition: [ControlEvent("terminate", run.key, number, text)]})
        done = await asking.done(0 if gateway.stopping else wait)
    return await _run(gateway, workflow, run.key), done


async def _run(gateway: Gateway, workflow: WorkflowDescriptor, key: str) -> RunView:
    run = await get_run(gateway.store, workflow, key)
    if run is None:
        raise ProblemError(
            "unknown_run", f"there is no run {shown_key(key)!r}", extra={"run": run_address(workflow, key)}
        )
    return run


def _etag(run: RunView) -> str:
    return f'"{head_of(run).version}"'
