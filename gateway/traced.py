"""Spans of requests that bring events: one way into them for all routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from headrace.gateway.gateway import Gateway
from headrace.gateway.problems import status_of
from headrace.workflows.records import Headers


async def traced(
    gateway: Gateway, request: Request, workflow: str, work: Callable[[Headers], Awaitable[Response]]
) -> Response:
    """Answer a request within its span, if it has one.

    Args:
        gateway: Of this process.
        request: The caller's.
        workflow: For which workflow.
        work: Makes the answer, given the headers that the event is to have.
    """
    headers = gateway.traces.unobserved(request)
    if headers is not None:
        return await work(headers)
    with gateway.traces.request(request, workflow) as answered:
        try:
            response = await work(answered.headers)
        except Exception as error:
            answered.status = status_of(error)
            raise
        answered.status = response.status_code
        return response
