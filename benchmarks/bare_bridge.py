"""The yardstick of the gateway: what a careful person writes by hand, without checks, order, states or durability.

`FastAPI -> XADD -> worker -> SET and PUBLISH -> reply`; one uvicorn process, and one worker process with three steps.
Started as `bare_bridge.py gateway URL` and `bare_bridge.py worker URL`; the gateway prints its port.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import redis.asyncio
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

INBOX = "bare:inbox"
REPLY_SECONDS = 600


def gateway(url: str) -> FastAPI:
    """The application."""
    waiters: dict[str, asyncio.Future[bytes]] = {}
    channel = f"bare:replies:{secrets.token_hex(8)}"
    client = redis.asyncio.Redis.from_url(url)

    async def listen() -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(channel)
            async for message in heard.listen():
                request, _, body = message["data"].partition(b" ")
                waiter = waiters.get(request.decode())
                if waiter is not None and not waiter.done():
                    waiter.set_result(body)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        listening = asyncio.create_task(listen())
        yield
        listening.cancel()
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/ask/{key}")
    async def ask(key: str, request: Request) -> Response:
        body = await request.body()
        msgspec.json.decode(body)
        name = secrets.token_hex(16)
        waiters[name] = waiter = asyncio.get_running_loop().create_future()
        try:
            await client.xadd(INBOX, {"id": name, "key": key, "body": body, "reply": channel})
            return Response(await asyncio.wait_for(waiter, 30), media_type="application/json")
        finally:
            del waiters[name]

    return app


async def work(url: str) -> None:
    """Take what comes, in batches as they lie there, through three steps."""
    client = redis.asyncio.Redis.from_url(url)
    after: Any = "0"
    print("ready", flush=True)
    while True:
        found = await client.xread({INBOX: after}, count=1000, block=1000)
        for _, entries in found:
            async with client.pipeline(transaction=False) as pipe:
                for at, fields in entries:
                    after = at
                    reply = _last(_second(_first(msgspec.json.decode(fields[b"body"]))))
                    name = fields[b"id"].decode()
                    pipe.set(f"bare:reply:{name}", reply, ex=REPLY_SECONDS)
                    pipe.publish(fields[b"reply"].decode(), name.encode() + b" " + reply)
                pipe.xtrim(INBOX, minid=after)
                await pipe.execute()


def _first(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"number": data["number"] + 1}


def _second(data: dict[str, Any]) -> dict[str, Any]:
    return data


def _last(data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"number": data["number"]})


def main(role: str, url: str) -> None:
    """Run one of the two."""
    if role == "worker":
        uvloop.run(work(url))
        return
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(partial(gateway, url), factory=True, access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
