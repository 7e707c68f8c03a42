"""Callbacks: what was told of a run, what is still to be told, and telling it once more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from headrace.actors.audit import audit
from headrace.actors.store_callbacks import CallbackView
from headrace.gateway.addresses import BASE, key_of, partition, run_address
from headrace.gateway.calls import json_response
from headrace.gateway.documented import answers
from headrace.gateway.gateway import OfProcess
from headrace.gateway.parameters import Cursor, Key, Limit, Name
from headrace.gateway.principal import Caller
from headrace.gateway.problems import ProblemError
from headrace.gateway.run_documents import written
from headrace.workflows.durability import Durability
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import shown_key

router = APIRouter(tags=["callbacks"])
_READING = ("unknown_workflow", "store_unavailable")


@router.get(
    f"{BASE}/runs/{{key}}/callbacks",
    summary="Callbacks of a run",
    responses=answers("callbacks", "invalid_parameter", "invalid_key", *_READING),
)
async def get_callbacks(
    gateway: OfProcess, principal: Caller, name: Name, key_text: Key, limit: Limit = 50
) -> Response:
    """What was told of a run, and what is still to be told, the newest first: with all attempts, and the next one.

    Those of earlier runs of its key are among them. They are kept for 30 days once they are told, or given up.
    """
    del principal
    workflow = await gateway.workflow(name)
    key = key_of(workflow, key_text)
    rows = await gateway.callbacks.store.of_run(workflow.name, partition(workflow, key), key, limit)
    return json_response({"callbacks": [_document(workflow, row) for row in rows]})


@router.get(
    f"{BASE}/callbacks/dead",
    summary="Callbacks that were given up",
    responses=answers("dead_callbacks", "invalid_parameter", "invalid_cursor", *_READING),
)
async def get_dead_callbacks(
    gateway: OfProcess, principal: Caller, name: Name, limit: Limit = 50, cursor: Cursor = ""
) -> Response:
    """The dead letters among callbacks, the newest first: refused for good, or tried for too long."""
    workflow = await gateway.workflow(name)
    rows, more = await gateway.callbacks.store.dead(
        workflow.name, workflow.partitions, principal.tenant, limit=limit, cursor=cursor
    )
    return json_response({"callbacks": [_document(workflow, row) for row in rows], "cursor": more})


@router.post(
    f"{BASE}/runs/{{key}}/callbacks/{{id}}/redeliver",
    summary="Tell it once more",
    responses=answers("redelivered", "invalid_key", "unknown_callback", "store_full", "not_durable", *_READING),
)
async def post_redeliver(
    gateway: OfProcess,
    principal: Caller,
    name: Name,
    key_text: Key,
    id: Annotated[str, Path(description="Of the callback.", max_length=100, examples=["msg_5e0f"])],
) -> Response:
    """Tell it once more, with the same id, whether it was given up or told before; one that waits is told now."""
    workflow = await gateway.workflow(name)
    key = key_of(workflow, key_text)
    queued = await gateway.callbacks.store.again(
        workflow.name, partition(workflow, key), key, id, Durability.parse(workflow.durability)
    )
    if queued == "UNKNOWN":
        raise ProblemError(
            "unknown_callback",
            f"run {shown_key(key)!r} has no callback {id!r}",
            extra={"run": run_address(workflow, key)},
        )
    await audit(gateway.store, workflow.name, "callbacks redelivered", 1, principal.name, "by request")
    home = run_address(workflow, key)
    return json_response({"id": id, "status": "pending"}, HTTPStatus.OK, {"Location": f"{home}/callbacks"})


def _document(workflow: WorkflowDescriptor, row: CallbackView) -> dict[str, Any]:
    home = run_address(workflow, row.run)
    return {
        "id": row.id,
        "run": home,
        "type": row.type,
        "url": row.url,
        "status": row.status,
        "occurred": written(row.made),
        "next_attempt": written(row.due),
        "attempts": row.attempts,
        "log": [
            {"at": written(each.at), "milliseconds": each.milliseconds, "status": each.status or None,
             "error": each.error or None}
            for each in row.log
        ],
        "links": {"redeliver": f"{home}/callbacks/{row.id}/redeliver"},
    }  # fmt: skip
