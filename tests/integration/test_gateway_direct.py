"""Requests that go past FastAPI: the same answers, guards, counts and problems as by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from headrace.actors.access_keys import create_key
from headrace.actors.store import Store
from headrace.gateway import direct
from headrace.gateway.app import create_app
from headrace.gateway.gateway import Gateway
from headrace.gateway.settings import gateway_settings
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

BASE = "/v1/workflows/orders"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "orders") as store:
        await store.acquire(0, term=1, placement=1, worker="worker/0")
        sources = (
            SourceDescriptor(name="asked", kind="requests", schema=SCHEMA),
            SourceDescriptor(name="approval", kind="messages", schema=SCHEMA),
        )
        await store.publish_workflow(WorkflowDescriptor(name="orders", keyed=True, partitions=1, sources=sources))
        yield store


class Ways:
    """A gateway, and by which way each request has gone."""

    def __init__(self, http: httpx.AsyncClient, gone: list[bool], gateway: Gateway) -> None:
        self._http, self._gone, self.gateway = http, gone, gateway

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(path)

    async def both(self, path: str, **request: Any) -> tuple[httpx.Response, httpx.Response]:
        """The answer of the straight way, and of FastAPI's: a query, whatever it asks, is for that one."""
        answers = [await self._http.post(f"{path}{query}", **request) for query in ("", "?other=1")]
        assert self._gone[-2:] == [True, False]
        return answers[0], answers[1]

    async def straight(self, path: str, **request: Any) -> bool:
        """Whether a POST goes the straight way."""
        await self._http.post(path, **request)
        return self._gone[-1]


@asynccontextmanager
async def serving(url: str, monkeypatch: pytest.MonkeyPatch, **table: Any) -> AsyncIterator[Ways]:
    gone: list[bool] = []

    class Noted(direct.DirectApp):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            gone.append(False)
            await super().__call__(scope, receive, send)

        async def _answer(self, gateway: Gateway, route: APIRoute, scope: Scope, receive: Receive, send: Send) -> None:
            gone[-1] = True
            await super()._answer(gateway, route, scope, receive, send)

    monkeypatch.setattr("headrace.gateway.app.DirectApp", Noted)
    app = create_app(url, settings=gateway_settings(table))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            yield Ways(http, gone, app.state.gateway)


NOW = {"prefer": "respond-async"}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a run": (f"{BASE}/runs", {"json": {"n": 1}}),
    "an event": (f"{BASE}/runs/a/events", {"json": {"n": 1}}),
    "an event for a key that is encoded": (f"{BASE}/runs/~w7w/events", {"json": {"n": 1}}),
    "a message to nobody": (f"{BASE}/runs/nobody/messages/approval", {"json": {"n": 1}}),
    "no such message": (f"{BASE}/runs/a/messages/other", {"json": {"n": 1}}),
    "no such workflow": ("/v1/workflows/none/runs", {"json": {"n": 1}}),
    "no such workflow, with characters": ("/v1/workflows/a%3Fb%23%C3%BC/runs", {"json": {"n": 1}}),
    "wrong data": (f"{BASE}/runs/a/events", {"json": {"n": "x"}}),
    "no JSON": (f"{BASE}/runs/a/events", {"content": b"{"}),
    "a key that can't be": (f"{BASE}/runs/~!/events", {"json": {"n": 1}}),
    "two idempotency keys": (
        f"{BASE}/runs", {"json": {"n": 1}, "headers": [("idempotency-key", "a"), ("idempotency-key", "b")]},
    ),
    "compressed": (f"{BASE}/runs", {"json": {"n": 1}, "headers": [("content-encoding", "gzip")]}),
}  # fmt: skip


@pytest.mark.parametrize(("path", "request_"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_answers_are_the_same_by_both_ways(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch, path: str, request_: dict[str, Any]
) -> None:
    headers = [*NOW.items(), *request_.get("headers", [])]
    async with serving(redis_url, monkeypatch) as ways:
        one, other = await ways.both(path, **{**request_, "headers": headers})

    def told(answer: httpx.Response) -> tuple[int, set[str], dict[str, Any]]:
        document = {**answer.json(), "id": "", "key": "", "links": ""}
        return answer.status_code, set(answer.headers), document

    assert told(one) == told(other)
    assert one.headers["content-type"] == other.headers["content-type"]


async def test_who_asks_is_found_out_on_both_ways(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def header(made: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {made[1]}", **NOW}

    reader = header(await create_key(store, "ann", "default", ("read",), lifetime=None))
    writer = header(await create_key(store, "bob", "acme", ("write",), lifetime=None))
    async with serving(redis_url, monkeypatch, authentication="required", rate="3/1m") as ways:
        nobody = await ways.both(f"{BASE}/runs", json={"n": 1})
        may_not = await ways.both(f"{BASE}/runs", json={"n": 1}, headers=reader)
        may = await ways.both(f"{BASE}/runs/a/events", json={"n": 1}, headers=writer)
        too_often = await ways.both(f"{BASE}/runs/a/events", json={"n": 1}, headers=writer)

    codes = [[answer.status_code for answer in answers] for answers in (nobody, may_not, may, too_often)]
    assert codes == [[401, 401], [403, 403], [202, 202], [202, 429]]
    assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in (*may, *too_often)] == [
        f'"caller";r={left}' for left in (2, 1, 0, 0)
    ]
    entries: Any = await store.client.xrange(store.keys(0).inbox)
    keys = {fields[b"key"] for _, fields in entries}
    assert len(keys) == 1
    assert b"acme" in keys.pop()


async def entries(store: Store) -> list[dict[bytes, bytes]]:
    rows: Any = await store.client.xrange(store.keys(0).inbox)
    return [fields for _, fields in rows]


async def test_B20_a_request_that_is_sent_again_counts_once_by_whichever_way(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"{BASE}/runs", f"{BASE}/runs/a/events", f"{BASE}/runs/a/messages/approval"]
    async with serving(redis_url, monkeypatch) as ways:
        for count, path in enumerate(paths, 1):
            chosen = {**NOW, "idempotency-key": "one"}
            answers = [answer for _ in range(2) for answer in await ways.both(path, json={"n": 1}, headers=chosen)]

            assert [answer.status_code for answer in answers] == [202] * 4, path
            assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true", "true"]
            assert len({answer.content for answer in answers}) == 1
            assert len(await entries(store)) == count, path


async def test_B21_an_idempotency_key_is_for_one_body_at_one_run_for_one_purpose(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {**NOW, "idempotency-key": "one"}
    async with serving(redis_url, monkeypatch) as ways:
        first, _ = await ways.both(f"{BASE}/runs/a/events", json={"n": 1}, headers=chosen)
        bodies = await ways.both(f"{BASE}/runs/a/events", json={"n": 2}, headers=chosen)
        assert len(await entries(store)) == 1
        elsewhere = await ways.both(f"{BASE}/runs/b/events", json={"n": 1}, headers=chosen)
        message = await ways.both(f"{BASE}/runs/a/messages/approval", json={"n": 1}, headers=chosen)

    assert [(answer.status_code, answer.json()["code"]) for answer in bodies] == [(422, "idempotency_key_reused")] * 2
    assert {answer.json()["run"] for answer in bodies} == {first.headers["location"]}
    for answers in (elsewhere, message):
        assert [answer.status_code for answer in answers] == [202, 202]
        assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    assert [(row[b"key"], row[b"source"]) for row in await entries(store)] == [
        (b"a", b"asked"), (b"b", b"asked"), (b"a", b"approval"),
    ]  # fmt: skip


async def test_a_process_that_is_about_to_end_keeps_no_connection_by_either_way(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(redis_url, monkeypatch) as ways:
        ways.gateway.leaving = True
        answers = await ways.both(f"{BASE}/runs", json={"n": 1}, headers=NOW)

    assert [answer.headers["connection"] for answer in answers] == ["close", "close"]


async def test_both_ways_are_counted_as_the_same_route(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(redis_url, monkeypatch) as ways:
        for path in (f"{BASE}/runs", f"{BASE}/runs/a/events", f"{BASE}/runs/a/messages/approval"):
            await ways.both(path, json={"n": 1}, headers=NOW)
        text = (await ways.get("/metrics")).text

    rows = [row for row in text.splitlines() if row.startswith("headrace_gateway_requests_total{") and "POST" in row]
    assert [row.rpartition(" ")[2] for row in rows] == ["2.0"] * 3


async def test_what_nobody_expected_is_a_problem_by_both_ways(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    async with serving(redis_url, monkeypatch) as ways:
        monkeypatch.setattr("headrace.gateway.gateway.Gateway.workflow", broken)
        answers = await ways.both(f"{BASE}/runs", json={"n": 1})

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(500, "internal_error")] * 2


async def test_only_what_needs_no_more_goes_straight(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {**NOW, "origin": "https://chat.example"}
    async with serving(redis_url, monkeypatch) as ways:
        others = (
            f"{BASE}/events",
            f"{BASE}/runs/",
            f"{BASE}/runs/a",
            "/v1/workflows//runs",
            f"{BASE}/runs/a/terminate",
        )
        for path in others:
            assert not await ways.straight(path, json={"n": 1}), path
        assert await ways.straight(f"{BASE}/runs", json={"n": 1}, headers=page)
    async with serving(redis_url, monkeypatch, cors_origins="https://chat.example") as ways:
        assert await ways.straight(f"{BASE}/runs", json={"n": 1}, headers=NOW)
        assert not await ways.straight(f"{BASE}/runs", json={"n": 1}, headers=page)
