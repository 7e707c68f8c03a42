"""What a gateway logs, at the level at which it says most: nothing by which somebody could ask."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import jwt
import pytest
import websockets
from websockets.sync.client import connect

from command_line import commands_in
from headrace.actors.access_keys import create_key, revoke_key
from headrace.actors.store import Store
from headrace.workflows.store import SourceDescriptor, WorkflowDescriptor
from hooks import OTHER_SECRET, SECRET

TOKENS = "token-secret-of-forty-characters-and-more"
PASSWORD = "store-password"
OPTIONS = f"""
[gateway]
authentication = "required"
callback_secrets = "{SECRET} {OTHER_SECRET}"
callback_networks = "127.0.0.0/8"
callback_plain = true
jwt_secret = "env:TOKENS"
jwt_issuer = "issuer"
jwt_audience = "gateway"
rate = "1000/s"
"""


def token(seconds: float, secret: str = TOKENS) -> str:
    claims = {"iss": "issuer", "aud": "gateway", "sub": "ann", "scope": "read write", "exp": time.time() + seconds}
    return jwt.encode(claims, secret, algorithm="HS256")


async def keys_of(redis_url: str) -> list[str]:
    """A key that counts, one that was taken back, one that has expired; and a workflow with a run."""
    async with Store(redis_url, "orders") as store:
        requests = SourceDescriptor(kind="requests", name="requests")
        await store.publish_workflow(WorkflowDescriptor(name="orders", partitions=1, sources=(requests,)))
        await store.client.hset(store.keys(0).run("a"), mapping={"status": "running", "number": "1"})
        made = [
            await create_key(store, "ann", "default", ("read", "write"), lifetime=lifetime)
            for lifetime in (None, None, 0.001)
        ]
        await revoke_key(store, made[1][0].id)
    return [text for _, text in made]


def test_no_log_line_has_what_lets_somebody_in(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENS", TOKENS)
    (tmp_path / "headrace.toml").write_text(OPTIONS)
    keys = asyncio.run(keys_of(redis_url))
    secrets = [*keys, token(600), token(-600), token(600, "forged" * 10), "hr_nonsense-key"]
    named = redis_url.replace("redis://", f"redis://default:{PASSWORD}@")
    with commands_in(tmp_path, "") as start:
        options = ("--log-level", "debug", "--log-format", "json")
        ran = start("serve", "--redis", named, "--port", "0", *options)
        ran.says("http://")
        found = re.search(r"http://127\.0\.0\.1:\d+", ran.text)
        assert found, ran.text
        base = f"{found[0]}/v1/workflows/orders"
        sockets = base.replace("http", "ws")
        with httpx.Client(timeout=20) as http:
            statuses, opened = [], []
            for secret in secrets:
                headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=0", "Idempotency-Key": "once"}
                statuses.append(http.get(f"{base}/runs", headers=headers).status_code)
                http.post(f"{base}/runs", json={}, headers={**headers, "Headrace-Callback": "http://u:word@h/"})
                http.get(f"{base}/runs?access_token={secret}", headers={"X-Api-Key": secret})
                with (
                    suppress(websockets.InvalidStatus),
                    connect(f"{sockets}/runs/a/session", additional_headers=headers, proxy=None),
                ):
                    opened.append(secret)
            headers = {"Authorization": f"Bearer {keys[0]}"}
            tickets = []
            for path in ("streams/s/tickets", "session/tickets"):
                tickets.append(http.post(f"{base}/runs/a/{path}", headers=headers).json()["ticket"])
            events = {"Accept": "text/event-stream"}
            with http.stream("GET", f"{base}/runs/a/streams/s?ticket={tickets[0]}", headers=events) as answer:
                assert answer.status_code == 200
            with connect(f"{sockets}/runs/a/session?ticket={tickets[1]}", proxy=None):
                pass
            assert http.get(f"{base}/runs/a/streams/s?ticket=guessed-ticket", headers=events).status_code == 401
        ran.process.send_signal(signal.SIGTERM)
        assert ran.ends() == 0
        lines = ran.text

    assert statuses == [200, 401, 401, 200, 401, 401, 401]
    assert opened == [secrets[0], secrets[3]]
    hidden = [SECRET, OTHER_SECRET, TOKENS, PASSWORD, "guessed-ticket", "word@", *tickets]
    for secret in (*secrets, *hidden, *(part for text in secrets for part in text.split(".")[1:])):
        assert secret not in lines, secret
        assert secret.removeprefix("whsec_") not in lines
    assert any(json.loads(line) for line in lines.splitlines() if line.startswith("{"))
