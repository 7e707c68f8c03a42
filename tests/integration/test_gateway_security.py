"""Who may ask, and how often: without credentials nothing is done, and what is refused tells nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from fastapi import APIRouter

from headrace.actors.access_keys import AccessKey, create_key, list_keys, revoke_key
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.gateway.app import create_app
from headrace.gateway.gateway import Gateway
from headrace.gateway.settings import gateway_settings
from headrace.logs import configure_logs
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

BASE = "/v1/workflows/orders"
LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Knows a workflow that nobody runs."""
    sources = (
        SourceDescriptor(kind="requests", name="requests"),
        SourceDescriptor(kind="messages", name="approval"),
    )
    async with Store(redis_url, "orders") as store:
        for name in ("orders", "others"):
            await store.publish_workflow(WorkflowDescriptor(name=name, partitions=1, sources=sources))
        yield store


@asynccontextmanager
async def serving(url: str, **table: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that asks for credentials."""
    app = create_app(url, settings=gateway_settings({"authentication": "required", **table}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            yield http


@pytest.fixture
async def http(redis_url: str, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(redis_url) as http:
        yield http


Make = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
def key(store: Store) -> Make:
    """Makes a key; answers the header that shows it."""

    async def make(*scopes: str, tenant: str = "default", lifetime: float | None = None, rate: str = "") -> Any:
        made = await create_key(store, "ann", tenant, scopes or ("read", "write"), lifetime=lifetime, rate=rate)
        return {"Authorization": f"Bearer {made[1]}"}

    return make


async def entries(store: Store) -> int:
    return int(await store.client.xlen(store.keys(0).inbox))


OPEN = ("/healthz", "/readyz")
NAMES = {"workflow": "orders", "key": "s1", "message": "approval", "value": "k", "stream": "s", "id": "1", "node": "n"}
ROUTES = sorted(
    (method.upper(), path.format(**NAMES))
    for path, row in create_app("redis://127.0.0.1:1/0").openapi()["paths"].items()
    for method in row
    if path not in OPEN
)
"""All of the document."""


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
async def test_B01_without_credentials_nothing_is_done(
    http: httpx.AsyncClient, store: Store, method: str, path: str
) -> None:
    before = await store.client.dbsize()
    content = b'{"workflow": "orders", "data": {}}' if method == "POST" else None
    answer = await http.request(method, path, content=content)

    assert (answer.status_code, answer.json()["code"]) == (401, "credentials_missing")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="headrace"'
    assert await entries(store) == 0
    assert await store.client.dbsize() == before, "nothing is created"


def test_every_route_of_a_workflow_asks_for_credentials(redis_url: str) -> None:
    app = create_app(redis_url)
    there = {(method.upper(), path) for path, row in app.openapi()["paths"].items() for method in row}

    assert len(there) == len(ROUTES) + len(OPEN)
    for path, row in app.openapi()["paths"].items():
        for operation in row.values():
            assert ("401" in operation["responses"]) is not (path in OPEN), path


async def test_a_route_that_does_not_ask_who_it_is_for_is_guarded_all_the_same(
    redis_url: str, store: Store, key: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()
    router.add_api_route("/v1/workflows/{workflow}/careless", lambda: "secret")
    monkeypatch.setattr("headrace.gateway.app._GUARDED", (router,))
    async with serving(redis_url) as http:
        answers = [await http.get(f"{BASE}/careless", headers=row) for row in ({}, await key("write"), await key())]

    assert [answer.status_code for answer in answers] == [401, 403, 200]


async def test_whether_something_is_there_is_not_told_to_nobody(http: httpx.AsyncClient) -> None:
    answers = [await http.get(f"/v1/workflows/{name}/runs?limit=x") for name in ("orders", "nowhere")]

    assert [answer.status_code for answer in answers] == [401, 401]


WRONG = {
    "unknown": ["Bearer hr_0000000000000000_" + "A" * 43],
    "no key": ["Bearer hr_abc"],
    "a token where none are taken": ["Bearer eyJhbGciOiJub25lIn0.e30."],
    "another scheme": ["Basic YW5uOnNlY3JldA=="],
    "empty": [""],
    "no scheme": ["hr_0000000000000000_" + "A" * 43],
    "too long": ["Bearer " + "a" * 9000],
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
async def test_credentials_that_do_not_count(http: httpx.AsyncClient, store: Store, headers: list[str]) -> None:
    answer = await http.post(
        f"{BASE}/runs", json={}, headers=[("Authorization", text) for text in headers]
    )  # fmt: skip

    assert (answer.status_code, answer.json()["code"]) == (401, "credentials_invalid")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert not headers[0] or headers[0].split()[-1] not in answer.text
    assert await entries(store) == 0


async def test_a_right_key_with_another_secret_does_not_count(http: httpx.AsyncClient, key: Make) -> None:
    right = (await key())["Authorization"]
    wrong = right[:-1] + ("A" if right[-1] != "A" else "B")

    assert (await http.get(f"{BASE}/runs", headers={"Authorization": right})).status_code == 200
    assert (await http.get(f"{BASE}/runs", headers={"Authorization": wrong})).status_code == 401


async def test_two_headers_are_refused_also_if_both_count(http: httpx.AsyncClient, store: Store, key: Make) -> None:
    headers = [*(await key()).items(), *(await key()).items()]

    answer = await http.post(f"{BASE}/runs", json={}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "credentials_repeated")
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]
    assert await entries(store) == 0


async def test_a_key_in_the_address_is_none(http: httpx.AsyncClient, key: Make) -> None:
    text = (await key())["Authorization"].removeprefix("Bearer ")

    assert (await http.get(f"{BASE}/runs?access_token={text}")).status_code == 401


async def test_a_key_that_has_expired_does_not_count(http: httpx.AsyncClient, key: Make) -> None:
    answer = await http.get(f"{BASE}/runs", headers=await key(lifetime=-1))

    assert (answer.status_code, answer.json()["detail"]) == (401, "the key has expired")


async def test_a_key_that_is_revoked_counts_no_more_once_it_is_looked_up_again(
    redis_url: str, store: Store, key: Make
) -> None:
    header = await key()
    async with serving(redis_url, credentials_seconds=0.001) as http, serving(redis_url) as remembering:
        before = [await each.get(f"{BASE}/runs", headers=header) for each in (http, remembering)]
        (row,) = await list_keys(store)
        assert await revoke_key(store, row.id)
        after = [await each.get(f"{BASE}/runs", headers=header) for each in (http, remembering)]

    assert [answer.status_code for answer in before] == [200, 200]
    assert [answer.status_code for answer in after] == [401, 200]  # the other one knows it for 5 s
    assert not await revoke_key(store, row.id)


async def test_the_store_has_no_key(store: Store, key: Make) -> None:
    secret = (await key())["Authorization"].rpartition("_")[2]

    text = str(await store.client.hgetall("hr:access_keys"))

    assert "ann" in text
    assert secret not in text


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("read",), {"GET /runs", "GET /dead-letters"}),
        (("write",), {"POST /runs", "POST /events"}),
        (("read", "write"), {"GET /runs", "GET /dead-letters", "POST /runs", "POST /events"}),
        (("read:orders",), {"GET /runs", "GET /dead-letters"}),
        (("read:others", "admin:others"), set()),
        ((), set()),
        (("admin",), {"GET /runs", "GET /dead-letters", "POST /runs", "POST /events", "POST /dead-letters/replay"}),
    ],
)
async def test_a_key_does_what_its_scopes_say(
    http: httpx.AsyncClient, store: Store, scopes: tuple[str, ...], allowed: set[str]
) -> None:
    made = await create_key(store, "ann", "default", scopes, lifetime=None)
    header = {"Authorization": f"Bearer {made[1]}", **LATER}
    calls = ["GET /runs", "GET /dead-letters", "POST /runs", "POST /events", "POST /dead-letters/replay"]
    answers = {}
    for call in calls:
        method, _, path = call.partition(" ")
        content = (b'{"all": true}' if "replay" in path else b"{}") if method == "POST" else None
        answers[call] = await http.request(
            method, BASE + path, content=content, headers={**header, "Content-Type": "application/json"}
        )  # fmt: skip

    assert {call for call, answer in answers.items() if answer.status_code < 300} == allowed
    for call in set(calls) - allowed:
        assert (answers[call].status_code, answers[call].json()["code"]) == (403, "forbidden")
        assert 'error="insufficient_scope"' in answers[call].headers["www-authenticate"]
    assert await entries(store) == len({"POST /runs", "POST /events"} & allowed)


async def test_only_an_admin_ends_runs(http: httpx.AsyncClient, key: Make) -> None:
    answers = [
        await http.post(f"{BASE}/runs/s1/terminate", headers=await key(*scopes))
        for scopes in (("read", "write"), ("admin:others",), ("admin:orders",))
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 404]


async def test_a_short_path_asks_for_the_same_and_counts_once(http: httpx.AsyncClient, store: Store, key: Make) -> None:
    order = {"workflow": "orders", "data": {}}
    nobody = await http.post("/workflow/start", json=order)
    begun = await http.post("/workflow/start", json=order, headers={**await key(rate="5/h"), **LATER})
    other = await http.post("/workflow/start", json=order, headers=await key("write:others"))
    ended = await http.post("/workflow/terminate/orders:s1", headers=await key("write"))

    assert [answer.status_code for answer in (nobody, begun, other, ended)] == [401, 202, 403, 403]
    assert begun.headers["ratelimit"].startswith('"caller";r=4;')
    assert await entries(store) == 1


async def test_topics_of_other_workflows_are_not_told(http: httpx.AsyncClient, key: Make) -> None:
    refused = await http.get("/asyncapi.json?workflow=others", headers=await key("read:orders"))

    assert (await http.get("/asyncapi.json")).status_code == 401
    assert refused.status_code == 403


async def test_what_all_workflows_count_is_for_an_admin_of_all(http: httpx.AsyncClient, key: Make) -> None:
    assert (await http.get("/metrics")).status_code == 401
    refused = [await key("read"), await key("admin:orders"), await key("admin", tenant="acme")]
    assert [(await http.get("/metrics", headers=row)).status_code for row in refused] == [403] * 3
    assert (await http.get("/metrics", headers=await key("admin"))).status_code == 200
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).status_code == 200


async def test_a_key_may_ask_as_often_as_it_says(redis_url: str, store: Store, key: Make) -> None:
    often, seldom = await key(), await key(rate="2/h")
    async with serving(redis_url, rate="100/h") as http, serving(redis_url) as other_process:
        first = await http.post(f"{BASE}/runs", json={}, headers={**seldom, **LATER})
        second = await other_process.get(f"{BASE}/runs/nobody", headers=seldom)
        third = await http.post(f"{BASE}/runs", json={}, headers={**seldom, **LATER})
        others = await http.get(f"{BASE}/runs", headers=often)

    assert [first.status_code, second.status_code, third.status_code] == [202, 404, 429]
    assert first.headers["ratelimit-policy"] == '"caller";q=2;w=3600'
    assert first.headers["ratelimit"] == '"caller";r=1;t=1800'
    assert second.headers["ratelimit"].startswith('"caller";r=0;t=')
    assert third.json()["code"] == "rate_limited"
    assert third.headers["ratelimit"].startswith('"caller";r=0;t=')
    assert 1700 < int(third.headers["retry-after"]) <= 1800
    assert (others.status_code, others.headers["ratelimit"]) == (200, '"caller";r=99;t=36')
    assert await entries(store) == 1


async def test_all_together_have_a_limit(redis_url: str, store: Store, key: Make) -> None:
    async with serving(redis_url, total_rate="3/h", rate="2/h") as http:
        answers = [await http.get(f"{BASE}/runs", headers=await key()) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"caller";q=2;w=3600, "all";q=3;w=3600'
    assert answers[3].headers["ratelimit"].startswith('"caller";r=2;t=0, "all";r=0')


async def test_where_nobody_asks_for_credentials_all_together_still_have_a_limit(redis_url: str, store: Store) -> None:
    async with serving(redis_url, authentication="none", total_rate="1/h", rate="1/h") as http:
        answers = [await http.get(f"{BASE}/runs") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]


@pytest.mark.parametrize("form", ["json", "console"])
async def test_no_log_line_has_a_credential(
    http: httpx.AsyncClient, key: Make, form: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Gateway, name: str) -> WorkflowDescriptor:
        raise RuntimeError(f"a mistake of ours, at {name}")

    header = await key("admin")
    before, root = structlog.get_config(), logging.getLogger().level
    configure_logs("debug", form)
    try:
        await http.get(f"{BASE}/runs", headers=[("Authorization", "Bearer hr_wrong")])
        await http.post(f"{BASE}/runs", json={}, headers={**header, **LATER})
        monkeypatch.setattr(Gateway, "workflow", fail)
        answer = await http.get(f"{BASE}/runs", headers=header)
    finally:
        structlog.configure(**before)
        logging.getLogger().setLevel(root)
    lines = capfd.readouterr().err

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "a mistake of ours" in lines
    secret = header["Authorization"].rpartition("_")[2]
    assert secret not in lines + answer.text
    assert "hr_wrong" not in lines


async def test_a_store_that_is_away_lets_nobody_in() -> None:
    async with serving("redis://127.0.0.1:1/0") as http:
        answer = await http.get(
            f"{BASE}/runs", headers={"Authorization": "Bearer hr_0000000000000000_" + "A" * 43}
        )  # fmt: skip

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_keys_are_listed_without_what_counts(redis_url: str) -> None:
    async with Registry(redis_url) as registry:
        made, text = await create_key(registry, "shop", "acme", ["write:orders"], lifetime=60.0)

        assert await list_keys(registry) == [made]
    assert isinstance(made, AccessKey)
    assert len(text) == 63
    assert text.rpartition("_")[2] not in json.dumps(made.scopes)
