"""A request on its way: into the inbox, and back with an answer, with an address, or with a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import Response
from starlette.types import Receive

from headrace.actors.store_requests import Admission, Condition
from headrace.gateway.addresses import links_of, partition, run_address
from headrace.gateway.answers import answer_response
from headrace.gateway.claims import wait_taken
from headrace.gateway.gateway import Gateway
from headrace.gateway.idempotency import REPLAYED, Identity
from headrace.gateway.preferences import Preference
from headrace.gateway.problems import ProblemError
from headrace.workflows.durability import Durability
from headrace.workflows.records import Headers
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from headrace.workflows.tenants import shown_key

DURABILITY: Final = "Headrace-Durability"
"""Header of answers: what request and reply have reached. `fast`: the store may lose them with its tail."""
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, checked, for one run."""

    workflow: WorkflowDescriptor
    source: SourceDescriptor
    key: str
    body: bytes
    identity: Identity
    condition: Condition
    preference: Preference
    headers: Headers
    """Of the event."""
    caller: Receive | None
    """By which it is seen that the caller has gone; None: whoever sends it sees to that."""
    claim: str = ""
    """Id of the wait that it is for; empty: of none in particular."""

    @property
    def home(self) -> str:
        """Address of the run."""
        return run_address(self.workflow, self.key)


async def send(gateway: Gateway, call: Call) -> Response:
    """Hand a request over, and wait for its answer as long as the caller wants.

    Raises:
        ProblemError: It was refused, for what is known of its run.
        StoreUnavailable, StoreFull: It may be in the inbox, or is not.
    """
    workflow, home = call.workflow, call.home
    durability = Durability.parse(workflow.durability)
    admission, blob = await gateway.bridge.ask(
        workflow.name, partition(workflow, call.key), call.key, call.source.name, call.body,
        request=call.identity.id, wait=call.preference.wait, durability=durability, headers=call.headers,
        fingerprint=call.identity.fingerprint, condition=call.condition, claim=call.claim,
        caller=call.caller,
    )  # fmt: skip
    if not admission.is_in:
        raise refusal(admission, workflow, call.key)
    headers = {DURABILITY: str(durability)}
    if call.preference.applied is not None:
        headers["Preference-Applied"] = call.preference.applied
    if admission is Admission.ALREADY and call.identity.fingerprint:
        headers[REPLAYED] = "true"
    if blob is not None:
        return answer_response(blob, home, {**headers, "Content-Location": home})
    document = {
        "id": call.identity.id,
        "key": shown_key(call.key),
        "status": "accepted",
        "durability": str(durability),
        "links": links_of(home),
    }
    return json_response(document, HTTPStatus.ACCEPTED, {**headers, "Location": home, "Retry-After": "1"})


def refusal(admission: Admission, workflow: WorkflowDescriptor, key: str) -> ProblemError:
    """The problem of a request that was not taken in."""
    home, number, key = run_address(workflow, key), partition(workflow, key), shown_key(key)
    where: dict[str, Any] = {"run": home}
    match admission:
        case Admission.OTHER:
            return ProblemError(
                "idempotency_key_reused", "another request had this Idempotency-Key at this run", extra=where
            )
        case Admission.RUNNING:
            return ProblemError(
                "run_exists", f"run {key!r} is running, or about to begin", headers={"Location": home}, extra=where
            )
        case Admission.TAKEN:
            return wait_taken(home)
        case Admission.UNKNOWN:
            return ProblemError("unknown_run", f"there is no run {key!r}", extra={**where, "delivered": False})
        case Admission.ENDED if workflow.keyed:
            return ProblemError("run_ended", f"run {key!r} has ended", extra={**where, "delivered": False})
        case Admission.ENDED:
            return ProblemError(
                "workflow_ended", f"workflow {workflow.name!r} has ended", extra={**where, "delivered": False}
            )
        case _:
            return ProblemError(
                "inbox_full", f"too many requests wait in partition {number} of {workflow.name!r}", extra=where
            )


def json_response(
    document: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(
        msgspec.json.encode(document), status_code=status.value, headers=dict(headers or {}), media_type=JSON
    )
