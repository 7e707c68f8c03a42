"""Sessions over WebSocket: events in, replies and streams out, on a real socket; what is refused, and who goes."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from headrace.actors.access_keys import create_key, revoke_key
from headrace.gateway import sessions
from headrace.gateway.settings import GatewaySettings, gateway_settings
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from http_rig import WORKFLOW, Rig, http_rig
from waiting import until_async


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with http_rig(redis_url) as rig:
        yield rig


def address(rig: Rig, query: str = "", key: str = "a") -> str:
    base = str(rig.http.base_url).replace("http://", "ws://").rstrip("/")
    return f"{base}/runs/{key}/session{query}"


def opened(rig: Rig, query: str = "", **options: Any) -> connect:
    return connect(address(rig, query), proxy=None, **options)


async def told(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        frame: dict[str, Any] = json.loads(await client.recv())
        return frame


async def say(client: ClientConnection, **frame: Any) -> None:
    await client.send(json.dumps(frame))


async def refused(rig: Rig, query: str = "", **options: Any) -> tuple[int, str]:
    """Status and code of a handshake that is refused."""
    with pytest.raises(websockets.InvalidStatus) as error:
        async with opened(rig, query, **options):
            pass
    return error.value.response.status_code, json.loads(error.value.response.body)["code"]


async def nobody_waits(rig: Rig) -> None:
    await until_async(lambda: rig.gateway.waiting == 0, "nobody waits any more")
    assert rig.gateway.sessions.count == rig.gateway.bridge.waiting == rig.gateway.follower.following == 0


async def with_approval(rig: Rig) -> None:
    sources = (
        SourceDescriptor(kind="requests", name="requests"), SourceDescriptor(kind="messages", name="approval"),
    )  # fmt: skip
    await rig.store.publish_workflow(WorkflowDescriptor(name=WORKFLOW, partitions=1, sources=sources))


async def test_an_event_goes_in_and_what_its_nodes_write_and_its_reply_come_out(rig: Rig) -> None:
    async with opened(rig, "?stream=s") as client:
        await say(client, id="1", data={"text": "hello"})
        assert await told(client) == {"type": "accepted", "to": "1", "durability": "fast", "replayed": False}
        request, channel = await rig.request()
        await rig.begin()
        await rig.write("Hi", " there", event=request)
        first, second = await told(client), await told(client)
        await rig.reply(request, channel, {"said": "Hi there"})
        reply = await told(client)

    assert [(row["type"], row["stream"], row["data"]) for row in (first, second)] == [
        ("value", "s", "Hi"), ("value", "s", " there"),
    ]  # fmt: skip
    assert reply == {"type": "reply", "to": "1", "status": "reply", "data": {"said": "Hi there"}}
    await nobody_waits(rig)


async def test_what_is_sent_again_counts_once_also_over_http(rig: Rig) -> None:
    async with opened(rig) as client:
        await say(client, id="1", data=[1])
        await told(client)
    async with opened(rig) as client:
        await say(client, id="1", data=[1])
        assert (await told(client))["replayed"] is True
        await say(client, id="1", data=[2])
        problem = await told(client)
    headers = {"Idempotency-Key": "1", "Prefer": "respond-async"}
    again = await rig.http.post("/runs/a/events", content=b"[1]", headers=headers)

    assert (problem["type"], problem["to"], problem["code"]) == ("error", "1", "idempotency_key_reused")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert await rig.store.client.xlen(rig.store.keys(0).inbox) == 1


async def test_a_message_goes_to_a_wait_of_a_run_that_is_there(rig: Rig) -> None:
    await with_approval(rig)
    async with opened(rig) as client:
        await say(client, id="1", message="approval", data={"approved": True})
        early = await told(client)
        await rig.begin()
        await say(client, id="2", message="approval", data={"approved": True})
        assert (await told(client))["type"] == "accepted"
        fields: Any = (await rig.store.client.xrange(rig.store.keys(0).inbox))[-1][1]
        await rig.reply(fields[b"id"].decode(), fields[b"reply"].decode(), "thanks")
        reply = await told(client)
        await say(client, id="3", message="other", data=1)
        unknown = await told(client)

    assert (early["to"], early["code"]) == ("1", "unknown_run")
    assert fields[b"source"] == b"approval"
    assert (reply["to"], reply["data"]) == ("2", "thanks")
    assert (unknown["to"], unknown["code"], unknown["messages"]) == ("3", "unknown_message", ["approval"])


async def test_a_stream_goes_on_where_the_client_was_cut_off_and_through_the_next_run(rig: Rig) -> None:
    await rig.begin()
    place = await rig.write(1, 2, 3)
    async with opened(rig, "?stream=s") as client:
        ids = [(await told(client))["id"] for _ in range(3)]
    async with opened(rig, f"?stream=s&stream=t&last_event_id={ids[1]}") as client:
        third = await told(client)
        await rig.commit(sealed=[place])
        await rig.end()
        ends = [await told(client), await told(client)]
        await rig.commit(runs={"a": ["status", "running", "number", "2"]}, changed=["a"])
        await rig._writer.append(0, rig.owner, place._replace(number=2), "u", 1, b'"again"')
        reset = again = await told(client)
        while again["type"] == "reset":
            again = await told(client)

    assert (third["data"], third["id"]) == (3, ids[2])
    assert {(row["type"], row["stream"], row["status"]) for row in ends} == {
        ("end", "s", "completed"), ("end", "t", "completed"),
    }  # fmt: skip
    assert reset == {"type": "reset", "stream": "s", "from": "0-0", "id": "0-0"}
    assert (again["type"], again["stream"], again["data"]) == ("value", "s", "again")


@pytest.mark.parametrize(
    ("text", "to", "code"),
    [
        ("hello", None, "invalid_json"),
        ("", None, "invalid_json"),
        ("[1]", None, "invalid_frame"),
        ('{"data": 1}', None, "invalid_frame"),
        ('{"id": 7, "data": 1}', None, "invalid_frame"),
        ('{"id": "1"}', "1", "invalid_frame"),
        ('{"id": "1", "mesage": "approval", "data": 1}', "1", "invalid_frame"),
        ('{"id": "", "data": 1}', "", "invalid_idempotency_key"),
        ('{"id": "1", "data": 1, "wait": "x"}', "1", "invalid_wait"),
        ('{"id": "1", "data": 1, "source": "none"}', "1", "no_requests"),
        ('{"id": "1", "data": ' + "[" * 10_000 + "]" * 10_000 + "}", None, "too_deep"),
        ('{"id": "1", "data": ' + "[" * 101 + "]" * 101 + "}", "1", "too_deep"),
    ],
)
async def test_a_frame_that_is_wrong_is_told_so_and_the_session_goes_on(
    rig: Rig, text: str, to: str | None, code: str
) -> None:
    async with opened(rig) as client:
        await client.send(text)
        problem = await told(client)
        await say(client, id="good", data=1)
        after = await told(client)

    assert (problem["type"], problem["to"], problem["code"]) == ("error", to, code)
    assert (after["type"], after["to"]) == ("accepted", "good")
    assert await rig.store.client.xlen(rig.store.keys(0).inbox) == 1


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\x00\xff", 1003), ('{"id": "1", "data": "' + "x" * (1 << 20) + "x" * 8000 + '"}', 1009)]
)
async def test_frames_that_are_binary_or_too_large_end_the_session(rig: Rig, frame: str | bytes, code: int) -> None:
    async with opened(rig) as client:
        await client.send(frame)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await told(client)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    await nobody_waits(rig)


async def test_of_a_client_that_goes_while_it_waits_nothing_is_left(rig: Rig) -> None:
    client = await opened(rig, "?stream=s")
    await say(client, id="1", data=1)
    await told(client)
    await until_async(lambda: rig.gateway.waiting == 3, "a session, its stream and its event wait")
    client.transport.abort()

    await nobody_waits(rig)


async def test_a_client_that_does_not_read_is_let_go(redis_url: str) -> None:
    async with http_rig(redis_url, GatewaySettings(port=0, body_seconds=1.0)) as rig:
        await rig.begin()
        await rig.write(*["x" * 60_000 for _ in range(300)])
        ear = socket.socket()
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        ear.connect((rig.http.base_url.host, rig.http.base_url.port))
        async with opened(rig, "?stream=s", sock=ear, max_queue=1, ping_interval=None) as client:
            await until_async(lambda: rig.gateway.follower.following == 1, "the stream is followed")
            await until_async(lambda: rig.gateway.follower.following == 0, "the stream is not followed any more")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await told(client)
        await nobody_waits(rig)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_a_process_that_ends_says_good_bye_after_what_is_known(redis_url: str) -> None:
    async with http_rig(redis_url) as rig, opened(rig, "?stream=s") as client:
        await say(client, id="1", data=1)
        await told(client)
        leaving = asyncio.create_task(asyncio.to_thread(rig.thread.__exit__, None, None, None))
        problem = await told(client)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await told(client)
        await leaving

    assert (problem["to"], problem["code"]) == ("1", "stopping")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


@asynccontextmanager
async def guarded(url: str, **table: Any) -> AsyncIterator[Rig]:
    settings = gateway_settings({"port": 0, "authentication": "required", "credentials_seconds": 0.05, **table})
    async with http_rig(url, settings) as rig:
        yield rig


async def key(rig: Rig, *scopes: str, tenant: str = "default", rate: str = "") -> tuple[dict[str, str], str]:
    made, text = await create_key(rig.store, "ann", tenant, scopes or ("read", "write"), lifetime=None, rate=rate)
    return {"Authorization": f"Bearer {text}"}, made.id


async def test_who_may_not_read_and_write_gets_no_session(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        found = [await refused(rig), await refused(rig, additional_headers={"Authorization": "Bearer nonsense"})]
        for scopes in (("read",), ("write",), ("read:other", "write:other")):
            found.append(await refused(rig, additional_headers=(await key(rig, *scopes))[0]))
        async with opened(rig, additional_headers=(await key(rig))[0]) as client:
            await say(client, id="1", data=1)
            assert (await told(client))["type"] == "accepted"

    assert found == [(401, "credentials_missing"), (401, "credentials_invalid"), *[(403, "forbidden")] * 3]


async def test_tenants_have_runs_of_their_own(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        await rig.write("secret")
        async with opened(rig, "?stream=s", additional_headers=(await key(rig, tenant="acme"))[0]) as client:
            await say(client, id="1", data=1)
            assert (await told(client))["type"] == "accepted"
        entry: Any = (await rig.store.client.xrange(rig.store.keys(0).inbox))[-1][1]

    assert b"acme" in entry[b"key"]


async def test_a_ticket_opens_the_session_it_was_made_for_and_no_other(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded(redis_url) as rig:
        headers, _ = await key(rig)
        reader, _ = await key(rig, "read")
        issued = (await rig.http.post("/runs/a/session/tickets", headers=headers)).json()
        stream = (await rig.http.post("/runs/a/streams/s/tickets", headers=headers)).json()
        may_not = await rig.http.post("/runs/a/session/tickets", headers=reader)
        async with opened(rig, f"?ticket={issued['ticket']}") as client:
            await say(client, id="1", data=1)
            assert (await told(client))["type"] == "accepted"
        forged = [f"?ticket={text}" for text in ("x", quote(issued["ticket"] + "x"), stream["ticket"])]
        found = [await refused(rig, query) for query in forged]
        with pytest.raises(websockets.InvalidStatus):
            async with connect(address(rig, f"?ticket={issued['ticket']}", key="b"), proxy=None):
                pass
        elsewhere = await rig.http.get(
            "/runs/a/streams/s", params={"ticket": issued["ticket"]}, headers={"Accept": "text/event-stream"}
        )

    assert issued["links"]["session"].endswith(f"/runs/a/session?ticket={issued['ticket']}")
    assert may_not.status_code == 403
    assert found == [(401, "invalid_ticket")] * 3
    assert elsewhere.status_code == 401
    assert not [row for row in caplog.records if row.name == "uvicorn.error" and issued["ticket"] in row.getMessage()]
    assert not [row for row in caplog.records if row.name == "uvicorn.error" and row.levelno >= logging.ERROR]


async def test_what_is_sent_too_often_is_told_so_also_by_ticket(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        headers, _ = await key(rig, rate="4/h")
        ticket = (await rig.http.post("/runs/a/session/tickets", headers=headers)).json()["ticket"]
        async with opened(rig, f"?ticket={ticket}") as client:
            for number in range(3):
                await say(client, id=str(number), data=1)
            frames = [await told(client) for _ in range(3)]

    assert [(row["type"], row["to"]) for row in frames] == [("accepted", "0"), ("accepted", "1"), ("error", "2")]
    assert frames[2]["code"] == "rate_limited"
    assert frames[2]["retry_after"] > 0


async def test_whose_key_is_revoked_has_no_session_any_more(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "KEEP_ALIVE", 0.1)
    async with guarded(redis_url) as rig:
        headers, id_ = await key(rig)
        async with opened(rig, additional_headers=headers) as client:
            await revoke_key(rig.store, id_)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await told(client)

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "credentials_invalid")


async def test_only_pages_of_the_own_and_of_known_origins_open_sessions(redis_url: str) -> None:
    async with http_rig(redis_url, gateway_settings({"port": 0, "cors_origins": "https://chat.example"})) as rig:
        own = f"http://{rig.http.base_url.host}:{rig.http.base_url.port}"
        for origin in ("https://chat.example", own):
            async with opened(rig, origin=origin) as client:
                await say(client, id=origin[:5], data=1)
                assert (await told(client))["type"] == "accepted"
        found = [await refused(rig, origin=origin) for origin in ("https://evil.example", "null")]

    assert found == [(403, "origin_refused")] * 2


async def test_what_a_session_cannot_follow_is_refused_at_once(rig: Rig) -> None:
    found = [
        await refused(rig, query)
        for query in (
            "?stream=s&stream=s", "?stream=", "?last_event_id=1-0", "?stream=s&last_event_id=x",
            "?" + "&".join(f"stream=s{number}" for number in range(17)),
        )
    ]  # fmt: skip

    parameter = (400, "invalid_parameter")
    assert found == [parameter, parameter, parameter, (400, "invalid_cursor"), parameter]
