"""From the answer of a request, as it lies in the store, to a caller's response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import Response

from headrace.gateway.claims import WAIT, wait_taken
from headrace.gateway.problems import ProblemError
from headrace.workflows import envelope
from headrace.workflows.calls import CLOSED
from headrace.workflows.wait_claims import TAKEN

STATUS: Final = "Headrace-Status"
"""Header of answers: how the request came to its answer. `reply`: by `ctx.reply`, and the run goes on; `waiting`: the
run stands at a wait; `completed`: it has ended; `done`: nothing of the event is left to do; `executed`: a node has had
it out of line."""
_LATE: Final = "late"


def answer_response(blob: bytes, home: str, headers: Mapping[str, str]) -> Response:
    """The response to a caller.

    Args:
        blob: JSON of a `RequestAnswer`.
        home: Address of the run.
        headers: Of the response.

    Raises:
        ProblemError: An event of the request has failed for good, or its run has ended without a result.
    """
    answer = envelope.decode(blob)
    extra: dict[str, Any] = {"run": home}
    if answer.kind == "failed":
        if answer.reason == TAKEN:
            raise wait_taken(home, headers)
        if answer.reason == _LATE:
            raise ProblemError("run_ended", answer.error, headers=headers, extra=extra)
        extra |= {"node": answer.node, "reason": answer.reason, "attempts": answer.attempts}
        if answer.reason in CLOSED:
            raise ProblemError("node_unavailable", answer.error, headers=headers, extra=extra)
        raise ProblemError("failed", answer.error, headers=headers, extra=extra)
    if answer.kind == "ended" and answer.outcome != "completed":
        extra |= {"run_status": answer.outcome, "reason": answer.data}
        raise ProblemError("run_not_completed", f"the run is {answer.outcome}", headers=headers, extra=extra)
    status = answer.outcome if answer.kind == "ended" else answer.kind
    all_headers = {**headers, STATUS: status, **({WAIT: answer.wait_id} if answer.wait_id else {})}
    if answer.value is msgspec.UNSET:
        document = {"status": status}
        if answer.wait:
            document |= {"wait": answer.wait, **({"wait_id": answer.wait_id} if answer.wait_id else {})}
        return Response(msgspec.json.encode(document), headers=all_headers, media_type="application/json")
    return Response(bytes(answer.value), headers=all_headers, media_type="application/json")
