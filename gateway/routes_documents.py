"""Documents of what workflows read and send, for generators and people; OpenAPI's own is FastAPI's."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Response

from headrace.gateway.asyncapi import asyncapi_of
from headrace.gateway.calls import json_response
from headrace.gateway.documented import answers
from headrace.gateway.gateway import OfProcess
from headrace.gateway.principal import READ, Caller

router = APIRouter(tags=["documents"])


@router.get(
    "/asyncapi.json",
    summary="Topics of workflows (AsyncAPI)",
    responses={
        200: {
            "description": "AsyncAPI 3.0.",
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "asyncapi": "3.0.0",
                        "info": {"title": "Headrace", "version": "1"},
                        "channels": {},
                        "operations": {},
                    },
                }
            },
        },
        **answers("unknown_workflow", "store_unavailable"),
    },
)
async def get_asyncapi(
    gateway: OfProcess,
    principal: Caller,
    name: Annotated[str | None, Query(alias="workflow", description="Only of this one.", examples=["orders"])] = None,
) -> Response:
    """Kafka topics that workflows read from and send to, with the types of what lies in them, as AsyncAPI 3.0."""
    if name is not None:
        found = [await gateway.workflow(name)]
    else:
        names = [each for each in sorted(await gateway.store.workflows()) if principal.may(READ, each)]
        rows = [await gateway.store.workflow(each) for each in names]
        found = [row for row in rows if row is not None]
    return json_response(asyncapi_of(found, version("headrace")))
