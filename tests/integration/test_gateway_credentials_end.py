"""Credentials that end while somebody follows by them: what was opened ends, too, and the tickets that were got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import websockets
from websockets.asyncio.client import connect

from headrace.actors.access_keys import create_key, revoke_key
from headrace.gateway import following, sessions, staying
from headrace.gateway.settings import gateway_settings
from http_rig import Rig, events_in, http_rig
from waiting import until_async

SSE = {"Accept": "text/event-stream"}
SECRET = "s" * 40


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at ten times a second, not each fifteen seconds."""
    monkeypatch.setattr(following, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(sessions, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(staying, "EVERY", 0.1)


@asynccontextmanager
async def guarded(url: str) -> AsyncIterator[Rig]:
    table = {"jwt_secret": SECRET, "jwt_issuer": "issuer", "jwt_audience": "gateway", "jwt_leeway_seconds": 0}
    settings = gateway_settings({"port": 0, "authentication": "required", "credentials_seconds": 0.05, **table})
    async with http_rig(url, settings) as rig:
        yield rig


async def key(rig: Rig) -> tuple[dict[str, str], str]:
    made, text = await create_key(rig.store, "ann", "default", ("read", "write"), lifetime=None)
    return {"Authorization": f"Bearer {text}"}, made.id


def token(seconds: float) -> dict[str, str]:
    claims = {"iss": "issuer", "aud": "gateway", "sub": "ann", "scope": "read write", "exp": time.time() + seconds}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


async def _followed(rig: Rig, path: str, headers: dict[str, str]) -> bytes:
    return (await rig.http.get(path, headers={**SSE, **headers})).content


async def following_by(rig: Rig, headers: dict[str, str], path: str = "/runs/a/streams/s") -> asyncio.Task[bytes]:
    """One that follows."""
    call = asyncio.create_task(_followed(rig, path, headers))
    await until_async(lambda: rig.gateway.follower.following, "somebody follows")
    return call


@pytest.mark.parametrize("writes", [False, True], ids=["nothing comes", "values come"])
async def test_whose_key_is_revoked_follows_no_stream_any_more(redis_url: str, writes: bool) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        headers, id_ = await key(rig)
        call = await following_by(rig, headers)
        await revoke_key(rig.store, id_)
        first = 1
        while writes and not call.done():
            await rig.write("x", first=first)
            first += 1
        events = events_in(await call)

    assert (events[-1].kind, events[-1].data["code"]) == ("error", "credentials_invalid")


async def test_whose_token_expires_follows_no_stream_any_more(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        events = events_in(await (await following_by(rig, token(2.0))))

    assert (events[-1].kind, events[-1].data["code"]) == ("error", "credentials_invalid")


async def test_an_event_s_answer_ends_with_the_key_of_who_asked_and_the_event_goes_on(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        headers, id_ = await key(rig)
        call = asyncio.create_task(rig.http.post("/runs/a/events?stream=s", json={}, headers={**SSE, **headers}))
        await rig.request()
        await revoke_key(rig.store, id_)
        events = events_in((await call).content)

        assert (events[-1].kind, events[-1].data["code"]) == ("error", "credentials_invalid")
        assert await rig.store.client.xlen(rig.store.keys(0).inbox) == 1
        await until_async(lambda: rig.gateway.waiting == 0, "nobody waits for it")


async def test_a_ticket_ends_with_the_key_by_which_it_was_got(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        headers, id_ = await key(rig)
        stream = (await rig.http.post("/runs/a/streams/s/tickets", headers=headers)).json()["ticket"]
        session = (await rig.http.post("/runs/a/session/tickets", headers=headers)).json()["ticket"]
        call = await following_by(rig, {}, f"/runs/a/streams/s?ticket={stream}")
        base = str(rig.http.base_url).replace("http://", "ws://").rstrip("/")
        async with connect(f"{base}/runs/a/session?ticket={session}", proxy=None) as client:
            await revoke_key(rig.store, id_)
            events = events_in(await call)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
        again = await rig.http.get(f"/runs/a/streams/s?ticket={stream}")

    assert (events[-1].kind, events[-1].data["code"]) == ("error", "invalid_ticket")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "invalid_ticket")
    assert (again.status_code, again.json()["code"]) == (401, "invalid_ticket")


async def test_a_ticket_ends_with_the_token_by_which_it_was_got(redis_url: str) -> None:
    async with guarded(redis_url) as rig:
        await rig.begin()
        made: Any = (await rig.http.post("/runs/a/streams/s/tickets", headers=token(3.0))).json()
        events = events_in(await (await following_by(rig, {}, f"/runs/a/streams/s?ticket={made['ticket']}")))

    assert (events[-1].kind, events[-1].data["code"]) == ("error", "invalid_ticket")
