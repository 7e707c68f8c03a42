"""Nodes, executed by themselves: with the data that a caller gives, and the states that a run has."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from headrace.actors.audit import audit
from headrace.actors.store_requests import Condition
from headrace.gateway.addresses import BASE, key_of
from headrace.gateway.bodies import decode_json, read_body
from headrace.gateway.calls import Call, send
from headrace.gateway.documented import EVENT_EXAMPLE, IDEMPOTENT, WAITING, answers, body_of, extra
from headrace.gateway.gateway import OfProcess
from headrace.gateway.idempotency import idempotency_key, identity_of
from headrace.gateway.parameters import Key, Name
from headrace.gateway.principal import ADMIN, Caller, demand
from headrace.gateway.problems import ProblemError
from headrace.gateway.traced import traced
from headrace.workflows.executing import source_of
from headrace.workflows.records import Headers
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

router = APIRouter(tags=["runs"])
EXECUTING = (
    "executed", "accepted", "failed",
    "invalid_json", "too_deep", "invalid_key", "invalid_idempotency_key", "invalid_parameter", "body_too_slow",
    "body_too_large", "unsupported_encoding", "invalid_data", "idempotency_key_reused", "not_executable",
    "unknown_workflow", "unknown_run", "unknown_node", "run_ended", "workflow_ended", "node_unavailable", "inbox_full",
    "too_many_waiting", "store_unavailable", "store_full", "not_durable",
)  # fmt: skip
"""Names of all answers."""


@router.post(
    f"{BASE}/runs/{{key}}/nodes/{{node}}",
    summary="Execute one node out of line",
    responses=answers(*EXECUTING),
    openapi_extra=extra(WAITING, IDEMPOTENT, body=body_of(EVENT_EXAMPLE)),
)
async def post_node(
    gateway: OfProcess,
    principal: Caller,
    request: Request,
    name: Name,
    key_text: Key,
    node: Annotated[str, Path(description="Name of the node.", examples=["price"])],
    commit: Annotated[bool, Query(description="Keep states and effects; needs the scope `admin`.")] = False,
) -> Response:
    """Have a node process the data in the body, with the states that the run has, and tell what it returned.

    It is in order with the events of the run. What the node returns takes no route, and no retry is made: a node that
    fails is answered at once (422 `failed`). Without `commit` nothing is kept of what it did to states or asked for by
    its context (messages, values, timers, streams); what its code does outside happens all the same. A reply is a part
    of the answer.
    """

    async def work(headers: Headers) -> Response:
        if commit:
            demand(ADMIN, name)
        workflow = await gateway.workflow(name)
        run = key_of(workflow, key_text)
        port = _node_of(workflow, node, commit=commit)
        chosen = idempotency_key(request)
        preference = gateway.preference(request)
        body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
        data = decode_json(body, gateway.settings)
        await (await gateway.checks(workflow, port)).check(data, len(body))
        identity = identity_of(chosen, (principal.tenant, name, run, port.name), body)
        if commit:
            await audit(gateway.store, workflow.name, "nodes executed", 1, principal.name, f"{node}, by request")
        return await send(gateway, Call(
            workflow=workflow, source=port, key=run, body=body, identity=identity, condition=Condition.RUNNING,
            preference=preference, headers=headers, caller=request.receive,
        ))  # fmt: skip

    return await traced(gateway, request, name, work)


def _node_of(workflow: WorkflowDescriptor, name: str, *, commit: bool) -> SourceDescriptor:
    """A node as what takes the data.

    Raises:
        ProblemError: `unknown_node`, `not_executable`; with the names of those that can be executed.
    """
    found = next((row for row in workflow.inputs if row.name == name), None)
    there = {"nodes": sorted(row.name for row in workflow.inputs if not row.refused)}
    if found is None and name not in workflow.nodes:
        raise ProblemError("unknown_node", f"workflow {workflow.name!r} has no node {name[:200]!r}", extra=there)
    if found is None or found.refused:
        raise ProblemError("not_executable", f"{name!r} of workflow {workflow.name!r} goes with the graph", extra=there)
    return SourceDescriptor(kind="node", name=source_of(name, commit=commit), type=found.type, schema=found.schema)
