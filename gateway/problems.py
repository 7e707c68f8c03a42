"""Errors as callers see them: RFC 9457 problem documents with a stable `code`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from headrace.workflows.key_format import KeyFormatUnknown, RestoreUnfinished
from headrace.workflows.store import NotDurable, StoreFull, StoreUnavailable, StoreUnsuitable

_AWAY = (StoreUnavailable, StoreFull, StoreUnsuitable, KeyFormatUnknown, RestoreUnfinished)


class ProblemError(Exception):
    """Ends a request with a problem document.

    Args:
        status: HTTP status.
        code: Stable word for programs: `unknown_workflow`, `invalid_json` ...
        detail: A sentence for people, about this occurrence.
        headers: More headers of the answer.
        extra: More members of the document, such as the run's address.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def response(self, instance: str) -> Response:
        """The answer, about the address `instance`."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            **self.extra,
        }
        return Response(
            msgspec.json.encode(document),
            status_code=self.status.value,
            headers=self.headers,
            media_type="application/problem+json",
        )


def add_problems(app: FastAPI) -> None:
    """Let the app answer every error by a problem document."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response(request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        found = ProblemError(status, status.phrase.lower().replace(" ", "_"), str(error.detail), headers=error.headers)
        return found.response(request.url.path)

    async def away(request: Request, error: Exception) -> Response:
        found = ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            _code_of(error),
            str(error),
            headers={"Retry-After": "1"},
        )
        return found.response(request.url.path)

    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(HTTPException, http)
    for kind in _AWAY:
        app.add_exception_handler(kind, away)


def status_of(error: Exception) -> int:
    """Status of the answer to an error."""
    if isinstance(error, ProblemError):
        return error.status.value
    away = isinstance(error, _AWAY)
    return (HTTPStatus.SERVICE_UNAVAILABLE if away else HTTPStatus.INTERNAL_SERVER_ERROR).value


def _code_of(error: Exception) -> str:
    if isinstance(error, StoreFull):
        return "store_full"
    return NotDurable.word if isinstance(error, NotDurable) else "store_unavailable"
