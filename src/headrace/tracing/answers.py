"""A request while it is being answered, with or without a span."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from headrace.workflows.records import Headers


@dataclass(slots=True)
class Answered:
    """What a request's event gets, and what its caller got."""

    headers: Headers
    """For the event: those for tracing that came, or those that name the request's span."""
    status: int = int(HTTPStatus.INTERNAL_SERVER_ERROR)
    """Of the answer; to be set."""
