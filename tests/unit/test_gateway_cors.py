"""Pages of other origins: those that are named may ask, and read what they need of answers."""

from __future__ import annotations

import httpx
import pytest

from headrace.gateway.app import create_app
from headrace.gateway.settings import GatewayOptionError, GatewaySettings, gateway_settings

PAGE = "http://localhost:8000"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key,prefer"}


async def preflight(settings: GatewaySettings, origin: str) -> httpx.Response:
    app = create_app("redis://127.0.0.1:1/0", settings=settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        return await http.options("/v1/workflows/chat/runs/ada/events", headers={"Origin": origin, **ASKS})


async def test_a_page_of_an_origin_that_is_named_may_ask() -> None:
    answer = await preflight(gateway_settings({"cors_origins": f"https://chat.example {PAGE}"}), PAGE)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "idempotency-key" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize("settings", [GatewaySettings(), gateway_settings({"cors_origins": "https://chat.example"})])
async def test_other_pages_may_not(settings: GatewaySettings) -> None:
    assert "access-control-allow-origin" not in (await preflight(settings, PAGE)).headers


async def test_a_page_may_read_also_what_is_refused() -> None:
    app = create_app("redis://127.0.0.1:1/0", settings=GatewaySettings(cors_origins=PAGE))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = await http.get("/nothing", headers={"Origin": PAGE})

    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Headrace-Status" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["http://localhost:8000/", "localhost:8000", "https://chat.example/page"])
def test_what_is_no_origin_is_named(origin: str) -> None:
    with pytest.raises(GatewayOptionError, match="is no origin"):
        gateway_settings({"cors_origins": origin})
