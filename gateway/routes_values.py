"""Values that nodes have published of runs: all of a run, and one, which may be waited for."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Request, Response

from headrace.actors.run_beginning import ACCEPTED
from headrace.actors.store_values import RunValues
from headrace.gateway.addresses import BASE, key_of, partition, run_address
from headrace.gateway.calls import JSON, json_response
from headrace.gateway.documented import WAITING, answers, extra
from headrace.gateway.documented_runs import KNOWN_VALUE
from headrace.gateway.gateway import OfProcess
from headrace.gateway.leaving import unless_gone
from headrace.gateway.parameters import Key, Name
from headrace.gateway.principal import Caller
from headrace.gateway.problems import ProblemError
from headrace.gateway.value_watch import ValuePlace
from headrace.workflows.runs import RUNNING
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import shown_key

router = APIRouter(tags=["runs"])
VERSION = "Headrace-Version"
"""Header of answers: how often the value was set in this run."""


@router.get(
    f"{BASE}/runs/{{key}}/values",
    summary="All values of a run",
    responses=answers("values", "invalid_key", "unknown_workflow", "unknown_run", "store_unavailable"),
)
async def get_values(gateway: OfProcess, principal: Caller, name: Name, key_text: Key) -> Response:
    """What the run has published, by name, at once; with the version of each: how often it was set."""
    del principal
    workflow = await gateway.workflow(name)
    key = key_of(workflow, key_text)
    found = await gateway.value_reader.values(workflow.name, partition(workflow, key), key)
    if found.status is None:
        raise _unknown(workflow, key)
    document = {
        "number": found.number,
        "status": found.status,
        "values": {each: msgspec.Raw(value.json) for each, value in found.values.items()},
        "versions": {each: value.version for each, value in found.values.items()},
    }
    headers = {"Content-Location": f"{run_address(workflow, key)}/values", "Cache-Control": "no-cache"}
    return json_response(document, headers=headers)


@router.get(
    f"{BASE}/runs/{{key}}/values/{{value}}",
    summary="One value of a run",
    responses=answers(
        "value", "not_set", "value_known", "invalid_key", "unknown_workflow", "unknown_run", "value_never_set",
        "too_many_waiting", "store_unavailable",
    ),
    openapi_extra=extra(KNOWN_VALUE, WAITING),
)  # fmt: skip
async def get_value(
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key_text: Key,
    value: Annotated[str, Path(description="Name of the value.", examples=["progress"])],
) -> Response:
    """A value that the run has published, bare. One that is not set yet is waited for, and then answered 204.

    With the ETag of the one that the caller has it is answered 304, or, with `Prefer: wait=`, waits for the next one.
    """
    del principal
    workflow = await gateway.workflow(name)
    key = key_of(workflow, key_text)
    place = ValuePlace(workflow.name, partition(workflow, key), key, value)
    known = [text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",") if text]
    preference = gateway.preference(request)
    is_asked = preference.applied is not None

    def is_settled(found: RunValues) -> bool:
        etag = _etag(found, value)
        return found.status not in (ACCEPTED, RUNNING) or (etag is not None and (etag not in known or not is_asked))

    found = await unless_gone(request, gateway.values.until(place, is_settled, preference.wait))
    if found.status is None:
        raise _unknown(workflow, key)
    headers = {"Cache-Control": "no-cache"}
    if preference.applied is not None:
        headers["Preference-Applied"] = preference.applied
    etag = _etag(found, value)
    if etag is None:
        if found.status not in (ACCEPTED, RUNNING):
            raise ProblemError(
                "value_never_set", f"run {shown_key(key)!r} has ended ({found.status}), and has never set {value!r}",
                extra={"run": run_address(workflow, key), "run_status": found.status},
            )  # fmt: skip
        return Response(status_code=HTTPStatus.NO_CONTENT.value, headers=headers)
    headers |= {"ETag": etag, VERSION: str(found.values[value].version)}
    if etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED.value, headers=headers)
    return Response(found.values[value].json, headers=headers, media_type=JSON)


def _etag(found: RunValues, name: str) -> str | None:
    """Of a value: which run's it is, as a key may be used again, and its version; None: it is not set."""
    value = found.values.get(name)
    return None if value is None else f'"{found.number}.{value.version}"'


def _unknown(workflow: WorkflowDescriptor, key: str) -> ProblemError:
    extra: dict[str, Any] = {"run": run_address(workflow, key)}
    return ProblemError("unknown_run", f"there is no run {shown_key(key)!r}", extra=extra)
