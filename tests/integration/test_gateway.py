"""A call goes through the gateway into the inbox, and the reply of a commit comes back to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from headrace.actors.store import Store
from headrace.actors.store_requests import Admission, Request, RequestStore
from headrace.gateway.app import create_app
from headrace.gateway.bridge import Bridge
from headrace.gateway.gateway import Gateway
from headrace.sources.requests import RequestSource
from headrace.sources.streams import StreamReader
from headrace.tracing.options import Tracing
from headrace.workflows.commit import EVERYBODY, Answer, Commit, Reply
from headrace.workflows.envelope import RequestAnswer, encode
from headrace.workflows.keyspace import partition_of
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Headers, Records
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from otlp import SERVER, Receiver
from waiting import until_async

PARTITIONS = 4
SOURCE = RequestSource(dict)


@dataclass
class Echo:
    """A worker that answers each request with its key and its data."""

    store: Store
    reader: StreamReader
    ready: asyncio.Queue[int]
    owners: dict[int, str] = field(default_factory=dict)
    sequences: dict[int, int] = field(default_factory=dict)

    async def own_all(self) -> None:
        for partition in range(PARTITIONS):
            head = await self.store.acquire(partition, term=1, placement=1, worker="worker/0")
            self.owners[partition], self.sequences[partition] = head.owner, head.sequence
            await self.reader.assign(partition, head.positions)

    async def work(self) -> None:
        while True:
            partition = await self.ready.get()
            for records in self.reader.pull(partition, 100):
                await self.answer(partition, records)

    async def answer(self, partition: int, records: Records) -> None:
        self.sequences[partition] += 1
        ids, replies = records.ids or [], records.replies or []
        answer = await self.store.commit(partition, self.owners[partition], Commit(
            sequence=self.sequences[partition],
            positions={records.origin: records.after},
            trims={records.origin: (records.after, len(records))},
            replies=[
                Reply(id_, reply, replied({"run": key, "data": msgspec.Raw(value or b"")}))
                for id_, reply, key, value in zip(ids, replies, map(_text, records.keys), records.values, strict=True)
                if reply is not None
            ],
        ))  # fmt: skip
        assert answer is Answer.APPLIED


def replied(value: Any) -> str:
    return encode(RequestAnswer(kind="reply", value=msgspec.Raw(msgspec.json.encode(value))))


def _text(key: bytes | None) -> str:
    return (key or b"").decode()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "chat") as store:
        requests = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name="chat", partitions=PARTITIONS, sources=(requests,)))
        yield store


@pytest.fixture
async def echo(redis_url: str, store: Store) -> AsyncIterator[Echo]:
    ready: asyncio.Queue[int] = asyncio.Queue()
    plan = SourcePlan(index=0, name="requests", source=SOURCE, type=0, key=None, targets=(0,))
    reader = StreamReader(redis_url, "chat", [plan], on_ready=ready.put_nowait, on_problem=lambda *_: None)
    await reader.open()
    echo = Echo(store, reader, ready)
    await echo.own_all()
    work = asyncio.create_task(echo.work())
    yield echo
    work.cancel()
    await reader.close()


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[FastAPI]:
    app = create_app(redis_url)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


EVENTS = "/v1/workflows/chat/runs/{}/events"


async def test_the_caller_gets_the_reply_to_its_event(http: httpx.AsyncClient, echo: Echo) -> None:
    answer = await http.post(EVENTS.format("s1"), json={"text": "hello"})

    assert (answer.status_code, answer.json()) == (200, {"run": "s1", "data": {"text": "hello"}})
    assert answer.headers["content-location"] == "/v1/workflows/chat/runs/s1"


async def test_many_callers_each_get_their_own_reply(http: httpx.AsyncClient, echo: Echo) -> None:
    answers = await asyncio.gather(*(http.post(EVENTS.format(f"s{n}"), json=n) for n in range(50)))

    assert [answer.json() for answer in answers] == [{"run": f"s{n}", "data": n} for n in range(50)]


async def test_a_key_of_any_characters_goes_by_base64url(http: httpx.AsyncClient, echo: Echo) -> None:
    answer = await http.post(EVENTS.format("~YS9i"), json=1)

    assert answer.json() == {"run": "a/b", "data": 1}


async def test_B28_a_late_reply_is_found_elsewhere(http: httpx.AsyncClient, store: Store) -> None:
    answer = await http.post(EVENTS.format("s1"), json={}, headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/workflows/chat/runs/s1"
    assert answer.headers["preference-applied"] == "respond-async"
    assert "retry-after" in answer.headers
    assert answer.json()["links"]["self"] == "/v1/workflows/chat/runs/s1"
    entries = await store.client.xlen(store.keys(partition_of("s1", PARTITIONS)).inbox)
    assert entries == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/workflows/nobody/runs/s1/events", b"{}", 404, "unknown_workflow"),
        (EVENTS.format("s1"), b"{", 400, "invalid_json"),
        (EVENTS.format("s1"), b"", 400, "invalid_json"),
        (EVENTS.format("~%21"), b"{}", 400, "invalid_key"),
        (EVENTS.format("s1"), b'"' + b"a" * (1 << 20) + b'"', 413, "body_too_large"),
        ("/v1/nothing", b"{}", 404, "not_found"),
    ],
)
async def test_what_is_refused_says_why(
    http: httpx.AsyncClient, store: Store, path: str, body: bytes, status: int, code: str
) -> None:
    answer = await http.post(path, content=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_that_speaks_of_another_run_is_refused(http: httpx.AsyncClient, store: Store) -> None:
    keyed = SourceDescriptor(kind="requests", name="requests", key="user")
    await store.publish_workflow(WorkflowDescriptor(name="keyed", partitions=1, sources=(keyed,)))

    answer = await http.post("/v1/workflows/keyed/runs/s1/events", json={"user": "s2"})

    assert (answer.status_code, answer.json()["code"]) == (422, "other_key")


async def test_a_request_is_appended_once_however_often_it_is_asked(redis_url: str, store: Store) -> None:
    async with RequestStore(redis_url) as requests:
        request = Request(id="r1", key="s1", source="requests", body=b"1")

        assert await requests.append_request("chat", 0, request) is Admission.APPENDED
        assert await requests.append_request("chat", 0, request) is Admission.ALREADY
        more = Request(id="r2", key="s1", source="requests", body=b"2")
        assert await requests.append_request("chat", 0, more, quota=1) is Admission.FULL

    assert await store.client.xlen(store.keys(0).inbox) == 1


async def break_subscriptions(store: Store) -> None:
    """Cut the connections that listen for replies (of this test's database; others share the server)."""
    database = str(store.client.connection_pool.connection_kwargs["db"])
    for client in await store.client.client_list(_type="pubsub"):
        if client["db"] == database:
            await store.client.client_kill_filter(_id=client["id"])


async def test_B29_no_reply_is_lost_with_the_gateways_connection(redis_url: str, store: Store) -> None:
    async with RequestStore(redis_url) as requests:
        bridge = Bridge(redis_url, requests)
        await bridge.open()
        await until_async(lambda: bridge.listening, "the bridge listens")
        head = await store.acquire(0, term=1, placement=1, worker="worker/0")
        call = asyncio.create_task(bridge.ask("chat", 0, "s1", "requests", b"1", request="r1", wait=20))
        await until_async(lambda: store.client.xlen(store.keys(0).inbox), "the request is in the inbox")

        # The wake-up goes to nobody: only the durable key is left, as when the connection breaks.
        await store.commit(0, head.owner, Commit(sequence=1, replies=[Reply("r1", "hr:replies:nobody", '"late"')]))
        await break_subscriptions(store)

        assert await asyncio.wait_for(call, 10) == (Admission.APPENDED, b'"late"')
        assert bridge.waiting == 0
        await bridge.close()


async def test_requests_that_nobody_will_process_are_told_that_the_workflow_has_ended(
    redis_url: str, http: httpx.AsyncClient, store: Store
) -> None:
    requests = SourceDescriptor(kind="requests", name="requests")
    only = WorkflowDescriptor(name="chat", partitions=1, sources=(requests,), keyed=False)  # only such ones end
    await store.publish_workflow(only)
    head = await store.acquire(0, term=1, placement=1, worker="worker/0")
    calls = [asyncio.create_task(http.post(EVENTS.format("-"), json=number)) for number in range(3)]
    inbox = store.keys(0).inbox
    await until_async(lambda: _has(store, inbox, 3), "the requests are in the inbox")

    ended = encode(RequestAnswer(kind="ended", outcome="terminated", value=msgspec.Raw(b'"enough"')))
    farewell = Reply("", EVERYBODY, ended)
    commit = Commit(sequence=1, counters={"ended": 1}, farewell=farewell)
    await store.commit(0, head.owner, commit)

    answers = [(answer.status_code, answer.json()["reason"]) for answer in await asyncio.gather(*calls)]
    assert answers == [(409, "enough")] * 3
    later = await http.post(EVENTS.format("-"), json=4)
    assert (later.status_code, later.json()["code"]) == (409, "workflow_ended")
    assert await store.client.xlen(inbox) == 3


async def _has(store: Store, inbox: str, count: int) -> bool:
    return await store.client.xlen(inbox) == count


async def test_callers_who_come_together_look_a_workflow_up_once(
    app: FastAPI, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway: Gateway = app.state.gateway
    looked: list[str] = []
    look = gateway.store.workflow

    async def counted(name: str) -> WorkflowDescriptor | None:
        looked.append(name)
        return await look(name)

    monkeypatch.setattr(gateway.store, "workflow", counted)
    found = await asyncio.gather(*(gateway.workflow("chat") for _ in range(1000)))

    assert {each.name for each in found} == {"chat"}
    assert looked == ["chat"]


async def test_the_process_says_that_it_lives(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def events_of(store: Store, redis_url: str, key: str) -> Headers:
    """Headers of the event that lies in the inbox of that run."""
    partition = partition_of(key, PARTITIONS)
    plan = SourcePlan(index=0, name="requests", source=SOURCE, type=0, key=None, targets=(0,))
    ready: asyncio.Queue[int] = asyncio.Queue()
    reader = StreamReader(redis_url, "chat", [plan], on_ready=ready.put_nowait, on_problem=lambda *_: None)
    await reader.open()
    try:
        await reader.assign(partition, {})
        await asyncio.wait_for(ready.get(), 10)
        [records] = reader.pull(partition, 10)
    finally:
        await reader.close()
    return dict(zip(map(_text, records.keys), records.headers or [()] * len(records), strict=True))[key]


async def test_headers_for_tracing_go_on_to_the_event(http: httpx.AsyncClient, store: Store, redis_url: str) -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=1", "baggage": "b=2", "cookie": "c"}
    await http.post(EVENTS.format("s1"), json={}, headers={"Prefer": "respond-async", **headers})
    await http.post(EVENTS.format("s2"), json={}, headers={"Prefer": "respond-async"})

    assert dict(await events_of(store, redis_url, "s1")) == {
        "traceparent": PARENT.encode(), "tracestate": b"a=1", "baggage": b"b=2"
    }  # fmt: skip
    assert await events_of(store, redis_url, "s2") == ()


async def test_a_traced_request_has_a_span_that_is_the_event_s_parent(redis_url: str, store: Store) -> None:
    with Receiver() as receiver:
        app = create_app(redis_url, traces=Tracing(endpoint=f"{receiver.address}/v1/traces"))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        ):
            sampled = {"Prefer": "respond-async", "traceparent": PARENT, "tracestate": "a=1", "baggage": "b=2"}
            await http.post(EVENTS.format("s1"), json={}, headers=sampled)
            await http.post(EVENTS.format("s2"), json={}, headers={**sampled, "traceparent": f"{PARENT[:-1]}0"})
            refused = await http.post("/v1/workflows/nobody/runs/s1/events", json={}, headers=sampled)

    assert refused.status_code == 404
    accepted, unknown = receiver.spans
    assert (accepted.kind, accepted.trace_id, accepted.parent) == (SERVER, TRACE, "00f067aa0ba902b7")
    assert accepted.name == "POST /v1/workflows/{workflow}/runs/{key}/events"
    assert accepted.attributes == {
        "http.request.method": "POST", "http.route": "/v1/workflows/{workflow}/runs/{key}/events",
        "headrace.workflow": "chat", "http.response.status_code": 202,
    }  # fmt: skip
    assert (unknown.attributes["http.response.status_code"], unknown.error) == (404, None)
    assert dict(await events_of(store, redis_url, "s1")) == {
        "traceparent": accepted.traceparent.encode(), "tracestate": b"a=1", "baggage": b"b=2"
    }  # fmt: skip
    assert dict(await events_of(store, redis_url, "s2"))["traceparent"] == f"{PARENT[:-1]}0".encode()
