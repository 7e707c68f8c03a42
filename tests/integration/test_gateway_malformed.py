"""What is hardly HTTP, or comes byte by byte or without end, is told so by a problem document, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from headrace.actors.store import Store
from headrace.gateway import protocol
from headrace.gateway.problem_types import PROBLEMS
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor

LIMITS = GatewaySettings(port=0, body_bytes=100_000, body_seconds=1.0)
EVENTS = "/v1/workflows/orders/runs/s1/events"
MANY = "/v1/workflows/orders/events"
STREAM = "/v1/workflows/orders/runs/s1/streams/s"
LATER = ("Prefer", "respond-async")
SOCKET_BYTES = 256 << 10
"""What asyncio reads at once."""
Headers = tuple[tuple[str, str], ...]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Knows a workflow that nobody runs."""
    async with Store(redis_url, "orders") as store:
        source = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=1, sources=(source,)))
        yield store


@pytest.fixture
def address(redis_url: str, store: Store) -> Iterator[httpx.URL]:
    with GatewayThread(redis_url, LIMITS) as address:
        yield httpx.URL(address)


@asynccontextmanager
async def connected(address: httpx.URL) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and code of a problem document, which is whole, and after which the connection is closed or goes on."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        lines = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        document = json.loads(await reader.readexactly(int(lines["content-length"])))
    status = int(head.split()[1])
    assert lines["content-type"] == "application/problem+json"
    assert set(document) >= {"type", "title", "status", "detail", "instance", "code"}
    assert document["status"] == status
    assert document["code"] in PROBLEMS
    return status, document["code"]


async def asked(address: httpx.URL, raw: bytes) -> tuple[int, str]:
    async with connected(address) as (reader, writer):
        writer.write(raw)
        return await answer_of(reader)


def request(method: str, path: str, *headers: tuple[str, str], host: Headers = (("Host", "g"),)) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*host, *headers))
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


TWO = ("Content-Length", "2")
BROKEN = {
    "two lengths": request("POST", EVENTS, TWO, ("Content-Length", "3"), LATER) + b"{} ",
    "the same length twice": request("POST", EVENTS, TWO, TWO, LATER) + b"{}",
    "a list of lengths": request("POST", EVENTS, ("Content-Length", "2, 2"), LATER) + b"{}",
    "less than nothing": request("POST", EVENTS, ("Content-Length", "-1")),
    "no number": request("POST", EVENTS, ("Content-Length", "two")),
    "a length and chunks": request("POST", EVENTS, TWO, ("Transfer-Encoding", "chunked")) + b"0\r\n\r\n",
    "an unknown transfer": request("POST", EVENTS, ("Transfer-Encoding", "gzip")) + b"{}",
    "a chunk of no size": request("POST", EVENTS, ("Transfer-Encoding", "chunked")) + b"zz\r\n{}\r\n0\r\n\r\n",
    "two types": request("POST", MANY, TWO, ("Content-Type", "application/json"), ("Content-Type", "text/csv")) + b"[]",
    "two encodings": request(
        "POST", EVENTS, TWO, LATER, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")
    ) + b"{}",
    "two hosts": request("GET", "/healthz", ("Host", "evil")),
    "no host": request("GET", "/healthz", host=()),
    "two ids to go on from": request("GET", STREAM, ("Last-Event-ID", "1-0"), ("Last-Event-ID", "2-0")),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "NUL in the address": request("GET", "/v1/\x00"),
    "NUL in a header": request("GET", "/healthz", ("Idempotency-Key", "a\x00b")),
    "no method": request("FOO", "/healthz"),
    "an endless address": request("GET", f"/v1/workflows/orders/runs/{'k' * 70_000}"),
    "a handshake without a key": request(
        "GET", "/v1/workflows/orders/runs/s1/session", ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
async def test_what_can_not_be_read_is_a_bad_request_and_leaves_nothing(
    address: httpx.URL, store: Store, raw: bytes
) -> None:
    assert await asked(address, raw) == (400, "bad_request")
    assert await store.client.xlen(store.keys(0).inbox) == 0


def handshake(*headers: tuple[str, str], query: str = "") -> bytes:
    known = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    return request("GET", f"/v1/workflows/orders/runs/s1/session{query}", *known.items(), *headers)


HANDSHAKES = {
    "a long header": (handshake(("Authorization", "Bearer " + "a" * 9000)), (431, "head_too_large")),
    "many headers": (handshake(*((f"X-{number}", "a") for number in range(200))), (431, "head_too_large")),
    "a long address": (handshake(query=f"?stream={'s' * 9000}"), (431, "head_too_large")),
    "a body": (handshake(("Content-Length", "3")) + b"abc", (400, "bad_request")),
    "chunks": (handshake(("Transfer-Encoding", "chunked")) + b"0\r\n\r\n", (400, "bad_request")),
}


@pytest.mark.parametrize(("raw", "expected"), HANDSHAKES.values(), ids=HANDSHAKES.keys())
async def test_a_handshake_that_can_not_be_read_is_answered_and_its_connection_ends(
    address: httpx.URL, raw: bytes, expected: tuple[int, str]
) -> None:
    async with connected(address) as (reader, writer):
        writer.write(raw)
        assert await answer_of(reader) == expected
        assert await asyncio.wait_for(reader.read(), 20) == b""


REPEATED = {
    "two keys": (("Idempotency-Key", "a"), ("Idempotency-Key", "b")),
    "the same key twice": (("Idempotency-Key", "a"), ("Idempotency-Key", "a")),
    "a key of other letters": (("Idempotency-Key", "\xe9"),),
}


@pytest.mark.parametrize("headers", REPEATED.values(), ids=REPEATED.keys())
async def test_an_idempotency_key_is_one(address: httpx.URL, headers: Headers) -> None:
    raw = request("POST", EVENTS, TWO, LATER, *headers) + b"{}"

    assert await asked(address, raw) == (400, "invalid_idempotency_key")


async def test_of_several_preferences_that_which_does_not_wait_counts(address: httpx.URL) -> None:
    raw = request("POST", EVENTS, TWO, ("Prefer", f"wait={'9' * 5000}"), LATER) + b"{}"
    async with connected(address) as (reader, writer):
        writer.write(raw)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()

    assert head.startswith("http/1.1 202")
    assert "preference-applied: respond-async" in head


async def test_headers_behind_a_body_are_none(address: httpx.URL, store: Store) -> None:
    chunked = request("POST", EVENTS, LATER, ("Transfer-Encoding", "chunked"))
    async with connected(address) as (reader, writer):
        writer.write(chunked + b"2\r\n{}\r\n0\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    assert head.startswith(b"HTTP/1.1 202")


async def test_a_head_that_is_too_large_is_not_kept(address: httpx.URL) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: g\r\nX-Long: "
    async with connected(address) as (reader, writer):
        writer.write(head + b"x" * (protocol.HEAD_BYTES + 1 - len(head)))  # no byte more: it would reset the connection

        assert await answer_of(reader) == (431, "head_too_large")


async def test_many_requests_that_come_at_once_are_each_answered(address: httpx.URL) -> None:
    one = request("GET", "/healthz", ("X-Long", "x" * 1000))
    count = 2 * SOCKET_BYTES // len(one)
    async with connected(address) as (reader, writer):
        writer.write(one * count)
        heads = [await _head_of(reader) for _ in range(count)]

    assert set(heads) == {b"HTTP/1.1 200 OK"}


async def _head_of(reader: asyncio.StreamReader) -> bytes:
    """First line of an answer that is read to its end."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return head.splitlines()[0]


@pytest.mark.parametrize("before", [b"", request("GET", "/healthz")], ids=["at first", "behind a request"])
async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(
    address: httpx.URL, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    async with connected(address) as (reader, writer):
        if before:
            writer.write(before)
            await _head_of(reader)
        sending = asyncio.create_task(_dribble(writer, b"GET /healthz HTTP/1.1\r\nHost: g\r\nX-Slow: " + b"x" * 1000))
        try:
            found = await answer_of(reader)
            end = await asyncio.wait_for(reader.read(), 20)
        finally:
            sending.cancel()

    assert (found, end) == ((408, "head_too_slow"), b"")


async def test_a_connection_over_which_nothing_comes_is_closed(
    address: httpx.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    async with connected(address) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_a_caller_that_waits_is_not_cut_off_by_what_it_has_begun_to_send_next(
    address: httpx.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    async with connected(address) as (reader, writer):
        writer.write(request("POST", EVENTS, TWO, ("Prefer", "wait=1")) + b"{}" + b"GET /healthz HT")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    assert head.startswith(b"HTTP/1.1 202")


async def test_a_body_that_comes_byte_by_byte_is_not_waited_for(address: httpx.URL) -> None:
    async with connected(address) as (reader, writer):
        writer.write(request("POST", EVENTS, ("Content-Length", "5000"), LATER))
        sending = asyncio.create_task(_dribble(writer, b" " * 5000))
        try:
            found = await answer_of(reader)
        finally:
            sending.cancel()

    assert found == (408, "body_too_slow")


async def _dribble(writer: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(OSError):
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_said", [True, False], ids=["said before", "in chunks"])
async def test_who_sends_a_hundred_megabytes_is_told_that_it_is_too_much(
    address: httpx.URL, store: Store, is_said: bool
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 0x100000

    headers = {"Content-Length": str(100 << 20)} if is_said else {}
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        answer = await http.post(EVENTS, content=body(), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert await store.client.xlen(store.keys(0).inbox) == 0


async def test_what_is_sent_behind_an_answer_is_passed_over_for_a_time(
    address: httpx.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.3)
    async with connected(address) as (reader, writer):
        writer.write(request("POST", EVENTS, ("Transfer-Encoding", "chunked"), LATER))
        sending = asyncio.create_task(_send_chunks(writer))
        found = await answer_of(reader)
        await asyncio.wait_for(sending, 20)  # the connection is gone

    assert found == (413, "body_too_large")


async def _send_chunks(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while True:
            writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)
