"""How this process is: that it lives, that it can work, what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Response

from headrace.gateway.calls import json_response
from headrace.gateway.documented import answers
from headrace.gateway.gateway import OfProcess
from headrace.gateway.principal import ADMIN, Caller, forbidden
from headrace.gateway.problems import ProblemError
from headrace.metrics.exposition import CONTENT_TYPE, exposition
from headrace.sources.suitable import check_server

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="This process lives")
async def get_health() -> dict[str, str]:
    """This process answers; whatever else is away."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="This process can work",
    responses=answers("stopping", "store_unavailable", "store_unsuitable"),
)
async def get_readiness(gateway: OfProcess) -> Response:
    """The store can be reached, and keeps what it is given; and this process is not about to end."""
    if gateway.leaving:
        raise ProblemError("stopping", "this process is about to end")
    server = await check_server(gateway.store.client, gateway.store.address)
    return json_response({"status": "ready", "store": server})


@router.get(
    "/metrics",
    summary="What all processes count",
    responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
)
async def get_metrics(gateway: OfProcess, principal: Caller) -> Response:
    """What the workflows of the store count, and this gateway process, as Prometheus reads it.

    Where credentials are asked for: with the scope `admin` for all workflows, of the tenant `default`.
    """
    if not principal.may_all(ADMIN):
        raise forbidden(ADMIN)
    page = await exposition(gateway.store, more=gateway.meter.rows())
    return Response(page, headers={"Content-Type": CONTENT_TYPE})
