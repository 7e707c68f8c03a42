"""B1, B46 with tokens: what does not count is refused at each way in, with nothing done; tenants are kept apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import websockets
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from headrace.gateway import direct, token_keys
from headrace.gateway.gateway import Gateway
from headrace.gateway.settings import gateway_settings
from headrace.workflows.node_inputs import NodeInput
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from http_rig import WORKFLOW, Rig, http_rig
from issuing import AUDIENCE, FORGED, ISSUER, KEY, OTHER, Issuer, segment, settings_for, signed
from waiting import until_async

PROBLEM = "application/problem+json"
SSE = {"Accept": "text/event-stream"}
SHORT = "/workflow/"
"""What paths begin with that are not below the workflow's."""
DIRECT = "straight"
"""What the ways begin with that go past FastAPI."""
LONGEST_OF_A_HANDSHAKE = 8192
"""Characters of a header, as the library of WebSockets has it."""


class Refused(NamedTuple):
    """What a caller is told."""

    status: int
    code: str


async def _sent(rig: Rig, token: bytes, method: str, path: str, **request: Any) -> Refused:
    headers = [(b"authorization", b"Bearer " + token), *request.pop("headers", {}).items()]
    url = rig.http.base_url.join(path) if path.startswith(SHORT) else path
    answer = await rig.http.request(method, url, headers=headers, **request)
    assert answer.headers["content-type"] == PROBLEM, answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    assert token.decode("latin-1") not in answer.text or len(token) < 4
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        assert answer.headers["www-authenticate"] == 'Bearer realm="headrace", error="invalid_token"'
    return Refused(answer.status_code, document["code"])


async def _shaken(rig: Rig, token: bytes) -> Refused:
    """By a handshake for a session."""
    address = str(rig.http.base_url).replace("http://", "ws://").rstrip("/")
    headers = {"Authorization": f"Bearer {token.decode('latin-1')}"}
    with pytest.raises(websockets.InvalidStatus) as error:
        async with connect(f"{address}/runs/a/session", proxy=None, additional_headers=headers):
            pass
    answer = error.value.response
    assert answer.headers["content-type"] == PROBLEM
    return Refused(answer.status_code, json.loads(answer.body)["code"])


def _way(method: str, path: str, **request: Any) -> Callable[[Rig, bytes], Awaitable[Refused]]:
    def go(rig: Rig, token: bytes) -> Awaitable[Refused]:
        return _sent(rig, token, method, path, **request)

    return go


WAYS = {
    f"{DIRECT}: a run": _way("POST", "/runs", json={}),
    f"{DIRECT}: an event": _way("POST", "/runs/a/events", json={}),
    f"{DIRECT}: an event and its stream": _way("POST", "/runs/a/events", json={}, headers=SSE),
    f"{DIRECT}: a message": _way("POST", "/runs/a/messages/approval", json={}),
    "a run": _way("POST", "/runs?key=a", json={}),
    "events": _way("POST", "/events", json=[{}]),
    "a message": _way("POST", "/runs/a/messages/approval?other=1", json={}),
    "a node": _way("POST", "/runs/a/nodes/take", json={}),
    "a node whose effects are kept": _way("POST", "/runs/a/nodes/take?commit=true", json={}),
    "the end": _way("POST", "/runs/a/terminate", json={}),
    "a look": _way("GET", "/runs/a"),
    "all runs": _way("GET", "/runs"),
    "a value": _way("GET", "/runs/a/values/k"),
    "a stream": _way("GET", "/runs/a/streams/s", headers=SSE),
    "a ticket": _way("POST", "/runs/a/session/tickets"),
    "dead letters": _way("POST", "/dead-letters/replay", json={}),
    "a short path": _way("POST", "/workflow/start", json={"workflow": WORKFLOW, "data": {}}),
    "a session": _shaken,
}


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of requests that went past FastAPI."""
    gone: list[str] = []

    class Noted(direct.DirectApp):
        async def _answer(self, gateway: Gateway, route: APIRoute, scope: Scope, receive: Receive, send: Send) -> None:
            gone.append(scope["path"])
            await super()._answer(gateway, route, scope, receive, send)

    monkeypatch.setattr("headrace.gateway.app.DirectApp", Noted)
    return gone


async def with_all(rig: Rig) -> None:
    """What each way leads to is there: a run of the tenant `default` with a value and a stream, a wait, a node."""
    sources = (
        SourceDescriptor(kind="requests", name="requests"), SourceDescriptor(kind="messages", name="approval"),
    )  # fmt: skip
    await rig.store.publish_workflow(
        WorkflowDescriptor(
            name=WORKFLOW, partitions=1, sources=sources, nodes=("take",), inputs=(NodeInput(name="take"),)
        )
    )
    await rig.begin(k=(1, "mine"))
    await rig.write("mine")


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path, straight: list[str]) -> AsyncIterator[Rig]:
    settings = settings_for(tmp_path, port=0, authentication="required")
    async with http_rig(redis_url, settings) as rig:
        await with_all(rig)
        yield rig


async def everything(rig: Rig) -> dict[bytes, bytes]:
    """All that the store has."""
    client = rig.store.client
    return {key: await client.dump(key) for key in await client.keys("*")}


async def refusals(rig: Rig, token: bytes, straight: list[str]) -> dict[str, Refused]:
    """What is answered by each way; nothing is done, and those that go straight have."""
    before = await everything(rig)
    found = {way: await go(rig, token) for way, go in WAYS.items()}
    assert await everything(rig) == before
    assert len(straight) == sum(way.startswith(DIRECT) for way in WAYS)
    return found


WRONG = {
    **{name: token.encode() for name, token in FORGED.items()},
    "too long": b"a" * 9000,
    "not of ASCII": b"ey\xff\xfe.e30.\xc3\xa9",
    "of a NUL by its name": segment({"alg": "RS256", "kid": "\x00"}).encode() + b".e30.AAAA",
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG.keys())
async def test_B01_a_token_that_does_not_count_is_refused_by_each_way_and_nothing_is_done(
    rig: Rig, straight: list[str], token: bytes
) -> None:
    found = await refusals(rig, token, straight)

    expected = dict.fromkeys(WAYS, Refused(401, "credentials_invalid"))
    if len(token) > LONGEST_OF_A_HANDSHAKE:
        expected["a session"] = Refused(431, "head_too_large")
    assert found == expected


@pytest.mark.parametrize("scope", ["", "profile", f"admin:{WORKFLOW}s", ["read:others", 1, None], {"read": True}])
async def test_a_token_without_a_right_is_refused_by_each_way_and_nothing_is_done(
    rig: Rig, straight: list[str], scope: Any
) -> None:
    found = await refusals(rig, signed(scope=scope, org="default").encode(), straight)

    assert found == dict.fromkeys(WAYS, Refused(403, "forbidden"))


async def test_a_token_that_may_read_does_nothing_else(rig: Rig, straight: list[str]) -> None:
    before = await everything(rig)
    token = signed(scope="read", org="default").encode()
    reading = ("a look", "all runs", "a value", "a stream")
    found = {way: await go(rig, token) for way, go in WAYS.items() if way not in reading}

    assert found == dict.fromkeys(found, Refused(403, "forbidden"))
    assert await everything(rig) == before


async def test_a_token_that_may_write_keeps_nothing_of_what_a_node_does(rig: Rig) -> None:
    before = await everything(rig)
    token = signed(scope="write", org="default").encode()

    found = [await WAYS[way](rig, token) for way in ("a node whose effects are kept", "the end", "dead letters")]

    assert found == [Refused(403, "forbidden")] * 3
    assert await everything(rig) == before


async def test_B46_a_token_of_another_tenant_reaches_nothing(rig: Rig) -> None:
    before = await everything(rig)
    token = signed(scope="admin", org="acme").encode()
    mine = [
        f"{DIRECT}: a message", "a message", "a node", "a node whose effects are kept", "the end", "a look", "a value",
        "a stream",
    ]  # fmt: skip
    found = {way: await WAYS[way](rig, token) for way in mine}
    listed = (await rig.http.get("/runs", headers={"Authorization": f"Bearer {token.decode()}"})).json()["runs"]

    assert found == dict.fromkeys(mine, Refused(404, "unknown_run"))
    assert {key for key in await everything(rig) if b"audit" not in key} == set(before)
    assert listed == []


async def test_B46_what_a_token_of_another_tenant_begins_is_a_run_of_its_own(rig: Rig) -> None:
    headers = {"Authorization": f"Bearer {signed(scope='read write', org='acme')}"}
    address = str(rig.http.base_url).replace("http://", "ws://").rstrip("/")

    begun = await rig.http.post("/runs/a/events", json={}, headers={**headers, "Prefer": "respond-async"})
    async with connect(f"{address}/runs/a/session?stream=s", proxy=None, additional_headers=headers) as client:
        await client.send(json.dumps({"id": "1", "data": 1}))
        told = json.loads(await client.recv())
    entries: Any = await rig.store.client.xrange(rig.store.keys(0).inbox)

    assert (begun.status_code, told["type"]) == (202, "accepted"), "nothing of the stream of the other one's run"
    assert {fields[b"key"] for _, fields in entries} == {b"tenant:acme:a"}


@pytest.fixture
def issuer() -> Any:
    with Issuer() as issuer:
        issuer.has("one", KEY)
        yield issuer


@pytest.fixture
async def asking(redis_url: str, issuer: Issuer, straight: list[str]) -> AsyncIterator[Rig]:
    """A gateway that asks the issuer for its keys."""
    table = {"jwt_jwks_url": issuer.url, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    async with http_rig(redis_url, gateway_settings({"port": 0, "authentication": "required", **table})) as rig:
        await with_all(rig)
        yield rig


BY_NAME = {
    "unknown": signed(OTHER, headers={"kid": "two"}),
    "another's": signed(OTHER, headers={"kid": "one"}),
    "none": signed(),
    "of a list": f"{segment({'alg': 'RS256', 'kid': ['one']})}.e30.AAAA",
    "of a file": signed(OTHER, headers={"kid": "../../../../dev/null"}),
    "with an address of keys": signed(OTHER, headers={"kid": "two", "jku": "http://127.0.0.1:1/keys"}),
    "with a key": signed(OTHER, headers={"kid": "two", "jwk": {"kty": "oct", "k": "AAAA"}}),
    "by another algorithm": signed("s" * 40, "HS256", headers={"kid": "one"}),
}


@pytest.mark.parametrize("token", BY_NAME.values(), ids=BY_NAME.keys())
async def test_a_token_of_a_key_that_is_not_the_issuer_s_is_refused_by_each_way(
    asking: Rig, straight: list[str], issuer: Issuer, token: str
) -> None:
    found = await refusals(asking, token.encode(), straight)

    assert found == dict.fromkeys(WAYS, Refused(401, "credentials_invalid"))
    assert issuer.asked <= 1
    right = await asking.http.get("/runs/a", headers={"Authorization": f"Bearer {signed(headers={'kid': 'one'})}"})
    assert right.status_code == 200


async def test_while_the_issuer_s_keys_can_not_be_had_each_way_says_so(
    asking: Rig, straight: list[str], issuer: Issuer
) -> None:
    issuer.body = b"<html>we are sorry</html>"

    found = await refusals(asking, signed(headers={"kid": "one"}, scope="admin").encode(), straight)

    assert found == dict.fromkeys(WAYS, Refused(503, "credentials_unavailable"))


async def test_who_asks_with_a_known_key_is_answered_while_the_issuer_leaves_others_waiting(
    asking: Rig, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "AGAIN", 0.0)
    right = {"Authorization": f"Bearer {signed(headers={'kid': 'one'})}"}
    assert (await asking.http.get("/runs/a", headers=right)).status_code == 200
    issuer.answers.clear()
    forged = [
        asyncio.create_task(WAYS["a look"](asking, signed(OTHER, headers={"kid": f"none-{number}"}).encode()))
        for number in range(20)
    ]
    await until_async(lambda: issuer.asked == 2, "the issuer is asked for a key that was made up")

    assert (await asking.http.get("/runs/a", headers=right)).status_code == 200
    assert not any(each.done() for each in forged)
    issuer.answers.set()
    assert set(await asyncio.gather(*forged)) == {Refused(401, "credentials_invalid")}


async def test_a_token_longer_than_any_head_ends_before_it_is_read(rig: Rig) -> None:
    before = await everything(rig)

    answer = await rig.http.get("/runs/a", headers={"Authorization": "Bearer " + "a" * 200_000})

    assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")
    assert await everything(rig) == before
