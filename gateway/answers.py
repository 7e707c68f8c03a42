"""From the answer of a request, as it lies in the store, to a caller's response."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from fastapi import Response

from headrace.gateway.problems import ProblemError
from headrace.workflows import envelope


def answered(blob: bytes, home: str, headers: Mapping[str, str]) -> Response:
    """The response to a caller.

    Args:
        blob: JSON of a `RequestAnswer`.
        home: Address of the run.
        headers: Of the response.

    Raises:
        ProblemError: An event of the request has failed for good, or its run has ended without a result.
    """
    answer = envelope.decode(blob)
    if answer.kind == "failed":
        extra = {"run": home, "node": answer.node, "reason": answer.reason, "attempts": answer.attempts}
        status = HTTPStatus.CONFLICT if answer.reason == "late" else HTTPStatus.UNPROCESSABLE_ENTITY
        raise ProblemError(status, "failed", answer.error, headers=headers, extra=extra)
    if answer.kind == "ended" and answer.outcome != "completed":
        extra = {"run": home, "outcome": answer.outcome, "reason": answer.data}
        raise ProblemError(HTTPStatus.CONFLICT, "ended", f"the run is {answer.outcome}", headers=headers, extra=extra)
    if answer.value is msgspec.UNSET:
        document = {"status": answer.kind, **({"wait": answer.wait} if answer.wait else {})}
        return Response(msgspec.json.encode(document), headers=dict(headers), media_type="application/json")
    return Response(bytes(answer.value), headers=dict(headers), media_type="application/json")
