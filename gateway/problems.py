"""Errors as callers see them: RFC 9457 problem documents with a stable `code`; see `problem_types`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.actors.run_views import BadCursor
from headrace.gateway.problem_types import PROBLEMS, problem_type
from headrace.workflows.key_format import KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.store import DestinationEnded, NotDurable, StoreFull, StoreUnavailable, StoreUnsuitable

log = structlog.get_logger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
_PLAIN: Final = "/~:@!$&'()*+,;="
"""Characters that stand for themselves in a path (RFC 3986, 3.3)."""
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (BadCursor, "invalid_cursor"),
    (DestinationEnded, "workflow_ended"),
    (StoreFull, "store_full"),
    (StoreUnsuitable, "store_unsuitable"),
    (NotDurable, "not_durable"),
    (StoreUnavailable, "store_unavailable"),
    (KeyFormatUnknown, "store_unavailable"),
    (RestoreUnfinished, "store_unavailable"),
)
"""Codes of problems that are errors elsewhere; the first that fits counts."""
_LATER: Final = (
    "inbox_full",
    "too_many_waiting",
    "store_unavailable",
    "store_full",
    "not_durable",
    "run_starting",
    "callbacks_full",
    "rate_limited",
    "quota_exceeded",
    "credentials_unavailable",
)
"""Codes of problems that pass: their answers have Retry-After."""
_RUN: Final = re.compile(r"(/v1/workflows/[^/]+/runs/[^/]+)(?:/|$)")
_OF_NO_RUN: Final = (
    "not_found", "method_not_allowed", "unknown_workflow", "invalid_key", "credentials_missing", "credentials_invalid",
    "credentials_repeated", "credentials_unavailable", "forbidden",
)  # fmt: skip
"""Codes of problems whose address may name no run, or none that the caller may see; all others tell it."""


class ProblemError(Exception):
    """Ends a request with a problem document.

    Args:
        code: Of a `ProblemType`, which has the status.
        detail: A sentence for people, about this occurrence.
        headers: More headers of the answer.
        extra: More members of the document, such as the run's address.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = problem_type(code)
        self.detail = detail
        self.headers = {**({"Retry-After": "1"} if code in _LATER else {}), **(headers or {})}
        self.extra = dict(extra or {})

    @property
    def code(self) -> str:
        """Stable word for programs: `unknown_workflow`, `invalid_json` ..."""
        return self.type.code

    @property
    def status(self) -> HTTPStatus:
        """HTTP status."""
        return self.type.status

    def document(self, instance: str) -> dict[str, Any]:
        """The problem document, about the address `instance`."""
        return {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.status.value,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            **self.extra,
        }

    def response(self, instance: str) -> Response:
        """The answer, about the address `instance`, decoded."""
        address = quote(instance, safe=_PLAIN, errors="replace")
        document = self.document(address)
        if "run" not in document and self.code not in _OF_NO_RUN and (found := _RUN.match(address)) is not None:
            document["run"] = found[1]
        return Response(
            msgspec.json.encode(document),
            status_code=self.status.value,
            headers=self.headers,
            media_type=PROBLEM_JSON,
        )


def add_problems(app: FastAPI) -> None:
    """Let the app answer every error by a problem document."""

    async def problem(request: Request, error: Exception) -> Response:
        return problem_of(error).response(request.url.path)

    for kind in (ProblemError, HTTPException, RequestValidationError, *(kind for kind, _ in _CODES)):
        app.add_exception_handler(kind, problem)
    app.add_exception_handler(ClientDisconnect, problem)
    app.add_middleware(Guarded)


class Guarded:
    """Middleware: what nobody expected is logged, and answered like any problem; the connection stays as it is.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if began or scope["type"] != "http":
                raise
            log.exception("request_failed", path=scope["path"])
            await problem_of(error).response(scope["path"])(scope, receive, send)


def problem_of(error: Exception) -> ProblemError:
    """The problem that an error is to callers."""
    match error:
        case ProblemError():
            return error
        case HTTPException():
            return _of_http(error)
        case RequestValidationError():
            rows = [{"path": _place(row["loc"]), "message": row["msg"]} for row in error.errors()]
            return ProblemError("invalid_parameter", _sentence(rows), extra={"errors": rows})
        case ClientDisconnect():
            return ProblemError("bad_request", "the body has ended before its end")
    for kind, code in _CODES:
        if isinstance(error, kind):
            return ProblemError(code, str(error))
    return ProblemError("internal_error", "the gateway has failed at this request")


def status_of(error: Exception) -> int:
    """Status of the answer to an error."""
    return problem_of(error).status.value


def _of_http(error: HTTPException) -> ProblemError:
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return ProblemError(code if code in PROBLEMS else "bad_request", str(error.detail), headers=error.headers)


def _place(location: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in location)


def _sentence(rows: list[dict[str, str]]) -> str:
    return "; ".join(f"{row['path']}: {row['message']}" for row in rows)
