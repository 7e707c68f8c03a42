"""Dead letters: what could not be processed, and sending it back in."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from headrace.actors.dead_letters import Filter, get_letter, list_letters, replay_letters
from headrace.actors.run_views import is_number
from headrace.gateway.addresses import BASE
from headrace.gateway.bodies import decode_json, read_body
from headrace.gateway.calls import json_response
from headrace.gateway.documented import answers, body_of, extra
from headrace.gateway.gateway import Gateway, OfProcess
from headrace.gateway.parameters import Cursor, Limit, Name
from headrace.gateway.principal import ADMIN, Caller, demand
from headrace.gateway.problems import ProblemError
from headrace.gateway.run_documents import letter_document
from headrace.workflows.store import WorkflowDescriptor
from headrace.workflows.tenants import tenant_of

router = APIRouter(tags=["dead letters"])
AT_ONCE: Final = 1000
"""Letters that one call sends back."""
_PARTS: Final = 3


class ReplayOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters are to go back: some by their addresses, or all that are wanted."""

    letters: list[str] = []
    reason: str | None = None
    node: str | None = None
    all: bool = False

    @property
    def is_clear(self) -> bool:
        """It says one thing."""
        wanted = self.reason is not None or self.node is not None or self.all
        return bool(self.letters) != wanted


@router.get(
    f"{BASE}/dead-letters",
    summary="List dead letters",
    responses=answers("letters", "invalid_parameter", "invalid_cursor", "unknown_workflow", "store_unavailable"),
)
async def get_dead_letters(
    gateway: OfProcess,
    principal: Caller,
    name: Name,
    reason: Annotated[
        str | None,
        Query(
            description="Only with this reason: `decode`, `error`, `reject`, ...", max_length=100, examples=["error"]
        ),
    ] = None,
    node: Annotated[
        str | None, Query(description="Only those that failed at this node.", max_length=200, examples=["price"])
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """List what could not be processed, the newest first: with its event, the reason, the error, attempts."""
    workflow = await gateway.workflow(name)
    wanted = Filter(reason=reason, node=node, tenant=principal.tenant)
    page = await list_letters(gateway.store, workflow.name, workflow.partitions, wanted, limit=limit, cursor=cursor)
    return json_response({"dead_letters": [letter_document(row) for row in page.letters], "cursor": page.cursor})


@router.post(
    f"{BASE}/dead-letters/replay",
    summary="Send dead letters back",
    responses=answers(
        "replayed", "invalid_json", "too_deep", "body_too_slow", "body_too_large", "invalid_data", "unknown_workflow",
        "workflow_ended", "store_full", "store_unavailable",
    ),
    openapi_extra=extra(
        body=body_of(
            {"letters": ["orders/3/1764168000000-0"]},
            schema={
                "type": "object", "additionalProperties": False,
                "properties": {
                    "letters": {"type": "array", "items": {"type": "string"}, "maxItems": AT_ONCE},
                    "reason": {"type": "string"}, "node": {"type": "string"}, "all": {"type": "boolean"},
                },
            },
        )
    ),
)  # fmt: skip
async def post_replay(gateway: OfProcess, principal: Caller, request: Request, name: Name) -> Response:
    """Send dead letters back to where they stopped: some by their addresses, or by `reason` and `node`, or `all`.

    Each goes once, also if this is asked twice; those of a key go in their order. At most a thousand in one call.
    """
    demand(ADMIN, name)
    workflow = await gateway.workflow(name)
    body = await read_body(request, gateway.settings, gateway.settings.body_bytes)
    order = _order(decode_json(body, gateway.settings))
    places, more = await _places(gateway, workflow, order, principal.tenant)
    done: Any = (0, 0)
    if places:
        why = "by request" if order.letters else f"reason={order.reason} node={order.node}"
        async with gateway.partitions(workflow) as store:
            done = await replay_letters(store, places, who=principal.name, why=why)
    replayed, kept = done
    return json_response({"found": len(places), "replayed": replayed, "kept": kept, "more": more})


def _order(data: Any) -> ReplayOrder:
    try:
        order = msgspec.convert(data, ReplayOrder)
    except msgspec.ValidationError as error:
        raise ProblemError("invalid_data", str(error)) from error
    if not order.is_clear:
        raise ProblemError("invalid_data", "say `letters`, or `reason` and `node`, or `all`")
    if len(order.letters) > AT_ONCE:
        raise ProblemError("invalid_data", f"at most {AT_ONCE} letters go back in one call")
    return order


async def _places(
    gateway: Gateway, workflow: WorkflowDescriptor, order: ReplayOrder, tenant: str
) -> tuple[list[tuple[int, str]], bool]:
    """Partition and entry of each, and whether there are more."""
    if order.letters:
        places = [_place(workflow, address) for address in dict.fromkeys(order.letters)]
        return [place for place in places if await _is_of(gateway, workflow, place, tenant)], False
    wanted = Filter(reason=order.reason, node=order.node, tenant=tenant)
    page = await list_letters(gateway.store, workflow.name, workflow.partitions, wanted, limit=AT_ONCE)
    return [(row.partition, row.entry) for row in page.letters], page.cursor is not None


async def _is_of(gateway: Gateway, workflow: WorkflowDescriptor, place: tuple[int, str], tenant: str) -> bool:
    """Whether a letter is there, and the tenant's."""
    found = await get_letter(gateway.store, workflow.name, *place)
    return found is not None and tenant_of(found.letter.key) == tenant


def _place(workflow: WorkflowDescriptor, address: str) -> tuple[int, str]:
    parts = address.split("/")
    if len(parts) == _PARTS and parts[0] == workflow.name and is_number(parts[1]):
        time, dash, number = parts[2].partition("-")
        if dash and is_number(time) and is_number(number) and int(parts[1]) < workflow.partitions:
            return int(parts[1]), parts[2]
    raise ProblemError("invalid_data", f"{address[:200]!r} is no address of a dead letter of {workflow.name!r}")
