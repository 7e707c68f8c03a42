"""Tenants of one workflow: each has runs of its own, whatever it calls them, and nobody reaches another's."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from command_line import commands_in
from headrace.actors.access_keys import create_key
from headrace.actors.store_registry import Registry
from headrace.embedded import Valkey
from headrace.gateway.app import create_app
from headrace.gateway.keys import encode_key
from headrace.gateway.settings import gateway_settings
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from waiting import until_async

FLOW = (Path(__file__).parents[1] / "support" / "flows" / "tenants.py").read_text()
DATABASE = 4001
"""Of the session's Valkey; other tests count theirs from 1 on."""
BASE = "/v1/workflows/orders"


@pytest.fixture(scope="module")
def url(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with a workflow that runs in a process of its own."""
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    with commands_in(tmp_path_factory.mktemp("tenants"), FLOW) as start:
        start("dev", "flow.py", "--inline", "--no-live", "--redis", url).says("running, after")
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(url, settings=gateway_settings({"authentication": "required"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://gateway{BASE}", timeout=60) as http:
            yield http


class Tenant:
    """A caller with a key of a tenant."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=20"}

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self._http.post(path, json=body, headers={**self._headers, **headers})

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(path, headers=self._headers)

    async def keys(self, prefix: str = "") -> set[str]:
        """Of the runs that they see."""
        answer = await self.get(f"/runs?limit=1000&key_prefix={prefix}")
        return {row["key"] for row in answer.json()["runs"]}


@pytest.fixture
async def tenants(url: str, http: httpx.AsyncClient) -> tuple[Tenant, Tenant, Tenant]:
    """The tenant `default`, and two others."""
    async with Registry(url) as registry:
        keys = [
            (await create_key(registry, name, name, ["admin"], lifetime=None))[1]
            for name in ("default", "acme", "beta")
        ]
    return Tenant(http, keys[0]), Tenant(http, keys[1]), Tenant(http, keys[2])


Tenants = tuple[Tenant, Tenant, Tenant]


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


async def test_the_same_key_is_another_run_for_each_tenant(tenants: Tenants, key: str) -> None:
    answers = [await tenant.post(f"/runs/{key}/events", {}) for tenant in (*tenants, *tenants)]

    assert [answer.json()["count"] for answer in answers] == [1, 1, 1, 2, 2, 2]
    assert {answer.headers["content-location"] for answer in answers} == {f"{BASE}/runs/{key}"}
    assert [answer.json()["key"] for answer in answers[:3]] == [key, f"tenant:acme:{key}", f"tenant:beta:{key}"]


async def test_B46_another_tenants_run_is_not_there(tenants: Tenants, key: str) -> None:
    default, acme, beta = tenants
    await acme.post(f"/runs/{key}/events", {"what": "wait"})

    for other in (default, beta):
        for answer in (
            await other.get(f"/runs/{key}"),
            await other.get(f"/runs/{key}/result"),
            await other.post(f"/runs/{key}/messages/approval", {"by": "eve"}),
            await other.post(f"/runs/{key}/nodes/take", {}),
            await other.post(f"/runs/{key}/nodes/take?commit=true", {}),
            await other.post(f"/runs/{key}/terminate", {}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_run")
            assert "acme" not in answer.text
    mine = (await acme.get(f"/runs/{key}")).json()
    assert (mine["key"], mine["status"], mine["wait"]["name"]) == (key, "running", "approval")
    assert mine["links"]["self"] == f"{BASE}/runs/{key}"
    approved = await acme.post(f"/runs/{key}/messages/approval", {"by": "ann"})
    assert approved.json() == {"approved": "ann"}


async def test_nobody_names_another_tenants_run_by_its_whole_key(tenants: Tenants, key: str) -> None:
    default, acme, beta = tenants
    await acme.post(f"/runs/{key}/events", {})
    whole = f"tenant:acme:{key}"

    for other in (default, beta, acme):
        answers = [
            await other.get(f"/runs/{encode_key(whole)}"),
            await other.post(f"/runs/{encode_key(whole)}/events", {}),
            await other.post(f"/runs?key={whole}", {}),
            await other.post("/events?source=by_field", {"order": whole}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(400, "invalid_key")] * 4
    assert (await acme.post(f"/runs/{key}/events", {})).json()["count"] == 2


async def test_a_list_has_ones_own_runs_only(tenants: Tenants, key: str) -> None:
    for number, tenant in enumerate(tenants):
        await tenant.post(f"/runs/{key}-{number}/events", {})

    assert [await tenant.keys(key) for tenant in tenants] == [{f"{key}-{number}"} for number in range(3)]
    seen = [await tenant.keys() for tenant in tenants]
    assert not any("tenant:" in name for names in seen for name in names)
    assert await tenants[0].keys("tenant:acme:") == set()


async def test_B21_the_same_idempotency_key_of_another_tenant_is_another_request(tenants: Tenants) -> None:
    _, acme, beta = tenants
    chosen = {"Idempotency-Key": secrets.token_hex(8)}

    first, other, again = [await tenant.post("/runs", {}, **chosen) for tenant in (acme, beta, acme)]

    assert first.json()["count"] == other.json()["count"] == again.json()["count"] == 1
    assert first.headers["content-location"] != other.headers["content-location"]
    assert "idempotent-replayed" not in other.headers
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("source", ["by_field", "by_function"])
async def test_a_key_in_the_data_is_one_of_the_tenant(tenants: Tenants, key: str, source: str) -> None:
    default, acme, beta = tenants
    assert (await acme.post(f"/events?source={source}", {"order": key})).json()["accepted"] == 1

    async def is_there() -> bool:
        return (await acme.get(f"/runs/{key}")).status_code == 200

    await until_async(is_there, "the run is its tenant's")
    assert [(await other.get(f"/runs/{key}")).status_code for other in (default, beta)] == [404, 404]
    if source == "by_field":
        answer = await acme.post(f"/runs/{key}/events?source=by_field", {"order": key})
        assert answer.json() == {"key": f"tenant:acme:{key}", "count": 2}


async def test_a_key_that_is_computed_reaches_no_other_tenant(tenants: Tenants, key: str) -> None:
    default, acme, _ = tenants
    await acme.post(f"/runs/{key}/events", {})

    await default.post("/events?source=by_function", {"order": f"tenant:acme:{key}"})

    async def letters() -> list[Any]:
        rows = (await default.get("/dead-letters?reason=key")).json()["dead_letters"]
        return [row for row in rows if key in str(row["data"])]

    (letter,) = await until_async(letters, "it is a dead letter")
    assert "no caller can choose" in letter["error"]
    assert (await acme.post(f"/runs/{key}/events", {})).json()["count"] == 2


async def test_dead_letters_are_seen_and_sent_back_by_their_tenant_only(tenants: Tenants, key: str) -> None:
    default, acme, beta = tenants
    await acme.post(f"/runs/{key}/events", {"what": "refuse"})

    async def of(tenant: Tenant) -> list[Any]:
        rows = (await tenant.get("/dead-letters?reason=reject")).json()["dead_letters"]
        return [row for row in rows if key in row["key"]]

    (letter,) = await of(acme)
    assert letter["key"] == key
    assert [await of(default), await of(beta)] == [[], []]
    for other in (default, beta):
        for order in ({"letters": [letter["address"]]}, {"reason": "reject"}):
            assert (await other.post("/dead-letters/replay", order)).json()["replayed"] == 0
    assert len(await of(acme)) == 1
    assert (await acme.post("/dead-letters/replay", {"letters": [letter["address"]]})).json()["replayed"] == 1


async def test_the_one_run_of_a_workflow_without_keys_is_of_the_default_tenant(
    url: str, http: httpx.AsyncClient, tenants: Tenants
) -> None:
    descriptor = WorkflowDescriptor(
        name="single", partitions=1, keyed=False, sources=(SourceDescriptor(kind="requests", name="requests"),)
    )
    async with Registry(url) as registry:
        await registry.publish_workflow(descriptor)

    default, acme, _ = tenants
    address = "http://gateway/v1/workflows/single/runs"
    assert (await default.get(address)).status_code == 200
    assert (await acme.get(address)).json()["code"] == "unknown_workflow"
    assert (await acme.post(f"{address}/-/events", {})).status_code == 404


async def test_values_and_streams_of_another_tenants_run_are_not_there(
    http: httpx.AsyncClient, tenants: Tenants, key: str
) -> None:
    default, acme, beta = tenants
    await acme.post(f"/runs/{key}/events", {})
    ticket = (await acme.post(f"/runs/{key}/streams/tokens/tickets", {})).json()["ticket"]

    assert (await acme.get(f"/runs/{key}/values")).status_code == 200
    for other in (default, beta):
        for path in ("values", "values/progress", "streams/tokens"):
            answer = await other.get(f"/runs/{key}/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_run")
            assert "tenant:" not in answer.text
    with_ticket = [await http.get(f"/runs/{run}/streams/tokens?ticket={ticket}") for run in (key, f"{key}x")]
    assert [answer.status_code for answer in with_ticket] == [200, 401]


async def test_who_may_write_executes_nodes_and_who_may_all_keeps_what_they_do(
    url: str, http: httpx.AsyncClient, tenants: Tenants, key: str
) -> None:
    _, acme, _ = tenants
    async with Registry(url) as registry:
        made = [await create_key(registry, name, "acme", [name], lifetime=None) for name in ("read", "write")]
    reader, writer = (Tenant(http, row[1]) for row in made)
    await acme.post(f"/runs/{key}/events", {"what": "wait"})
    path = f"/runs/{key}/nodes/take"
    answers = [await who.post(path + query, {}) for who in (reader, writer, acme) for query in ("", "?commit=true")]
    again = await acme.post(path, {})

    assert [answer.status_code for answer in answers] == [403, 403, 200, 403, 200, 200]
    assert {answer.json()["scope"] for answer in answers[:2]} == {"write"}
    assert answers[3].json()["scope"] == "admin"
    assert answers[2].json()["reply"] == {"key": f"tenant:acme:{key}", "count": 2}
    assert (answers[5].json()["committed"], again.json()["reply"]["count"]) == (True, 3)
