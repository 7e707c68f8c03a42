"""What can't be taken is told by a problem document with a stable code, never by a 500: over real connections."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.actors.store import Store
from headrace.gateway.problem_types import PROBLEMS
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from waiting import until_async

LIMITS = GatewaySettings(port=0, body_bytes=100_000, ingest_bytes=200_000, ingest_events=500, body_seconds=1.0)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Knows two workflows, which nobody runs: one whose data say the key, one whose addresses do."""
    keyed = SourceDescriptor(kind="requests", name="requests", key="user.id")
    plain = SourceDescriptor(kind="requests", name="requests", schema=SCHEMA)
    computed = SourceDescriptor(kind="requests", name="requests", computed_key=True)
    messages = SourceDescriptor(kind="messages", name="approval")
    async with Store(redis_url, "orders") as store:
        await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=4, sources=(plain, messages)))
        await store.publish_workflow(WorkflowDescriptor(name="users", partitions=4, sources=(keyed,)))
        await store.publish_workflow(WorkflowDescriptor(name="computed", partitions=4, sources=(computed,)))
        await store.publish_workflow(WorkflowDescriptor(name="single", partitions=1, keyed=False, sources=(plain,)))
        await store.publish_workflow(WorkflowDescriptor(name="deaf", partitions=1))
        yield store


@pytest.fixture
def address(redis_url: str, store: Store) -> Iterator[str]:
    with GatewayThread(redis_url, LIMITS) as address:
        yield address


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Prefer": "respond-async"}
    async with httpx.AsyncClient(base_url=f"{address}/v1/workflows", timeout=30, headers=headers) as client:
        yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document, which is whole."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(document) >= {"type", "title", "status", "detail", "instance", "code"}
    assert (document["status"], document["type"]) == (answer.status_code, f"urn:headrace:problem:{document['code']}")
    return answer.status_code, document["code"]


EVENTS = "/orders/runs/s1/events"
DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (EVENTS, b"{", 400, "invalid_json"),
        (EVENTS, b"", 400, "invalid_json"),
        (EVENTS, b"\x00", 400, "invalid_json"),
        (EVENTS, b'"\xff"', 400, "invalid_json"),
        (EVENTS, b'"\\ud800"', 400, "invalid_json"),
        (EVENTS, b"NaN", 400, "invalid_json"),
        (EVENTS, DEEP, 400, "too_deep"),
        (EVENTS, b'{"n": ' * 200 + b"1" + b"}" * 200, 400, "too_deep"),
        (EVENTS, b" " * 100_001, 413, "body_too_large"),
        (EVENTS, b'{"n": "1"}', 422, "invalid_data"),
        (EVENTS, b"[]", 422, "invalid_data"),
        ("/orders/runs/~!/events", b'{"n": 1}', 400, "invalid_key"),
        ("/orders/runs/%00/events", b'{"n": 1}', 400, "invalid_key"),
        ("/orders/runs/a%0Ab/events", b'{"n": 1}', 400, "invalid_key"),
        (f"/orders/runs/{'k' * 1025}/events", b'{"n": 1}', 400, "invalid_key"),
        ("/orders/runs?key=", b'{"n": 1}', 400, "invalid_parameter"),
        (f"/orders/runs?key={'k' * 1025}", b'{"n": 1}', 400, "invalid_key"),
        ("/orders/runs?source=nobody", b'{"n": 1}', 404, "no_requests"),
        ("/nobody/runs", b"{}", 404, "unknown_workflow"),
        ("/%00/runs", b"{}", 404, "unknown_workflow"),
        (f"/{'w' * 5000}/runs", b"{}", 404, "unknown_workflow"),
        ("/deaf/runs", b"{}", 404, "no_requests"),
        ("/users/runs", b"{}", 422, "no_key"),
        ("/users/runs", b'{"user": {"id": null}}', 422, "no_key"),
        ("/users/runs", b'{"user": {"id": true}}', 422, "no_key"),
        ("/users/runs", b"[1]", 422, "no_key"),
        ("/users/runs?key=b", b'{"user": {"id": "a"}}', 422, "other_key"),
        ("/users/runs/b/events", b'{"user": {"id": "a"}}', 422, "other_key"),
        ("/computed/runs", b"{}", 422, "computed_key"),
        ("/orders/events?source=nobody", b"[]", 404, "no_requests"),
        ("/orders/events", b"[1, ", 400, "invalid_json"),
        ("/orders/events", b"[" + b"1," * 500 + b"1]", 413, "too_many_events"),
        ("/orders/events", DEEP, 400, "too_deep"),
        ("/orders/events", b" " * 200_001, 413, "body_too_large"),
        ("/users/events", b"{}", 422, "no_key"),
        ("/orders/runs/s1/messages/nothing", b"{}", 404, "unknown_message"),
        ("/orders/runs/s1/messages/approval", b"{", 400, "invalid_json"),
        ("/orders/runs/s1/messages/approval", b"{}", 404, "unknown_run"),
        ("/orders/runs/s1/terminate", b"[]", 422, "invalid_data"),
        ("/orders/runs/s1/terminate", b"{", 400, "invalid_json"),
        ("/orders/dead-letters/replay", b"", 400, "invalid_json"),
        ("/orders/nothing", b"{}", 404, "not_found"),
    ],
)
async def test_what_is_refused_says_why(
    http: httpx.AsyncClient, store: Store, path: str, body: bytes, status: int, code: str
) -> None:
    answer = await http.post(path, content=body)

    assert problem(answer) == (status, code)
    assert [await store.client.xlen(store.keys(number).inbox) for number in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Idempotency-Key": ""}, 400, "invalid_idempotency_key"),
        ({"Idempotency-Key": "k" * 256}, 400, "invalid_idempotency_key"),
        ({"Idempotency-Key": "a b"}, 400, "invalid_idempotency_key"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_encoding"),
    ],
)
async def test_headers_that_are_refused_say_why(
    http: httpx.AsyncClient, headers: dict[str, str], status: int, code: str
) -> None:
    for path in ("/orders/runs", EVENTS, "/orders/events"):
        assert problem(await http.post(path, json={"n": 1}, headers=headers)) == (status, code)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/orders/runs/~!", 400, "invalid_key"),
        ("/orders/runs/s1", 404, "unknown_run"),
        ("/orders/runs?limit=0", 400, "invalid_parameter"),
        ("/orders/runs?limit=many", 400, "invalid_parameter"),
        ("/orders/runs?cursor=x", 400, "invalid_cursor"),
        ("/orders/runs?cursor=%C2%B2", 400, "invalid_cursor"),
        (f"/orders/runs?cursor={'9' * 100}.0", 400, "invalid_cursor"),
        ("/orders/dead-letters?cursor=1-1", 400, "invalid_cursor"),
        ("/orders/dead-letters?cursor=%C2%B2-0.0", 400, "invalid_cursor"),
        ("/orders/events", 405, "method_not_allowed"),
        ("/orders/runs/s1/events/", 404, "not_found"),
    ],
)
async def test_what_can_not_be_looked_at_says_why(http: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    assert problem(await http.get(path)) == (status, code)


async def test_types_of_bodies_that_are_not_taken_say_so(http: httpx.AsyncClient) -> None:
    for media in ("text/csv", "application/cloudevents+avro", "multipart/form-data; boundary=x"):
        answer = await http.post("/orders/events", content=b"n\n1\n", headers={"Content-Type": media})
        assert problem(answer) == (415, "unsupported_media_type")


async def test_a_body_that_takes_too_long_is_not_waited_for(address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST /v1/workflows{EVENTS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 20\r\n\r\n"
        writer.write(head.encode() + b'{"n":')
        await writer.drain()

        status = (await asyncio.wait_for(reader.readline(), 20)).decode()
        rest = (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()

    assert status.startswith("HTTP/1.1 408")
    assert json.loads(rest.partition("\r\n\r\n")[2])["code"] == "body_too_slow"


async def test_a_body_that_is_said_to_be_too_large_is_not_read(address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST /v1/workflows{EVENTS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000000\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()

        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 413")
    finally:
        writer.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
BODY = st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode())
SEGMENT = st.text(min_size=1, max_size=30).filter(lambda text: text not in (".", "..")) | st.sampled_from(
    ["orders", "users", "runs", "events", "messages", "approval", "s1", "result", "terminate", "dead-letters"]
)
MEDIA = [
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    segments=st.lists(SEGMENT, max_size=5),
    body=BODY,
    media=st.sampled_from(MEDIA),
)
def test_whatever_is_sent_there_is_an_answer(
    address: str, method: str, segments: list[str], body: bytes, media: str
) -> None:
    path = "/".join(quote(segment, safe="") for segment in segments)
    headers: dict[str, Any] = {"Content-Type": media, "Prefer": "respond-async"}
    answer = httpx.request(method, f"{address}/v1/workflows/{path}", content=body, headers=headers)

    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert problem(answer)[1] in PROBLEMS


async def test_the_single_run_of_an_unkeyed_workflow_has_an_address(http: httpx.AsyncClient) -> None:
    begun = await http.post("/single/runs", json={"n": 1})
    sent = await http.post("/single/runs/-/events", json={"n": 1})

    assert begun.headers["location"] == sent.headers["location"] == "/v1/workflows/single/runs/-"


async def test_a_gateway_whose_store_is_away_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        with GatewayThread(url, LIMITS) as address:
            async with httpx.AsyncClient(base_url=address, timeout=30) as http:
                ready, alive = await http.get("/readyz"), await http.get("/healthz")
                asked = await http.get("/v1/workflows/orders/runs/s1")

    assert (alive.status_code, problem(ready), problem(asked)) == (
        200, (503, "store_unavailable"), (503, "store_unavailable")
    )  # fmt: skip
    assert ready.headers["retry-after"] == "1"


async def test_callers_wait_up_to_a_limit(redis_url: str, store: Store) -> None:
    few = GatewaySettings(port=0, waiting=2)
    with GatewayThread(redis_url, few) as address:
        async with httpx.AsyncClient(base_url=f"{address}/v1/workflows", timeout=30) as http:
            waits = [asyncio.create_task(http.post(f"/orders/runs/s{n}/events", json={"n": 1})) for n in range(2)]

            async def are_waiting() -> bool:
                page = (await http.get(f"{address}/metrics")).text
                return bool(re.search(r"^headrace_gateway_waiting\{.*\} 2\.0$", page, re.MULTILINE))

            await until_async(are_waiting, "two callers wait")
            refused = await http.post(EVENTS, json={"n": 1}, headers={"Prefer": "wait=1"})
            asynchronous = await http.post(EVENTS, json={"n": 1}, headers={"Prefer": "respond-async"})
            for wait in waits:
                wait.cancel()

    assert problem(refused) == (503, "too_many_waiting")
    assert asynchronous.status_code == 202


async def test_a_mistake_of_the_gateway_is_told_and_counted(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    with GatewayThread(redis_url, LIMITS) as address, structlog.testing.capture_logs() as logged:
        monkeypatch.setattr("headrace.gateway.routes_runs.get_run", fail)
        async with httpx.AsyncClient(base_url=address, timeout=30) as http:
            answer = await http.get("/v1/workflows/orders/runs/s1")
            page = (await http.get("/metrics")).text

    assert problem(answer) == (500, "internal_error")
    assert "request_failed" in [row["event"] for row in logged]
    assert re.search(r'^headrace_gateway_requests_total\{.*status="500"\} 1\.0$', page, re.MULTILINE)
