"""Callers that go while they wait: nobody waits for them any more, and what they have sent goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from http_rig import Rig, http_rig
from waiting import until_async

CALLERS = 20
LONG = {"Prefer": "wait=30"}


async def waiting(rig: Rig, count: int) -> None:
    await until_async(lambda: rig.gateway.waiting == count, f"{count} wait in the gateway")


async def go_away(callers: list[asyncio.Task[Any]]) -> None:
    """Their connections are broken, as those of a client that has been ended."""
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)


async def test_callers_of_events_that_go_are_not_waited_for_and_their_runs_go_on(redis_url: str) -> None:
    async with http_rig(redis_url) as rig:
        asking = [
            asyncio.create_task(
                rig.http.post(f"/runs/r{number}/events", json={}, headers={**LONG, "Idempotency-Key": f"k{number}"})
            )
            for number in range(CALLERS)
        ]
        staying = asyncio.create_task(rig.http.post("/runs/stays/events", json={}, headers=LONG))
        await waiting(rig, CALLERS + 1)
        await go_away(asking)
        await waiting(rig, 1)  # well before their thirty seconds

        entries: Any = await rig.store.client.xrange(rig.store.keys(0).inbox, "-", "+")
        assert len(entries) == CALLERS + 1
        for place, fields in entries:
            key = fields[b"key"].decode()
            done = ["status", "completed", "number", "1", "result", '"done"', "ended", "1"]
            await rig.reply(
                fields[b"id"].decode(), fields[b"reply"].decode(), key,
                runs={key: done}, positions={"inbox": place.decode()},
            )  # fmt: skip
        assert (await staying).json() == "stays"
        again = await rig.http.post("/runs/r7/events", json={}, headers={**LONG, "Idempotency-Key": "k7"})
        run = (await rig.http.get("/runs/r7")).json()

        assert (again.status_code, again.json(), again.headers["Idempotent-Replayed"]) == (200, "r7", "true")
        assert (run["status"], run["result"]) == ("completed", "done")
        await waiting(rig, 0)


async def test_a_connection_serves_the_next_call_after_one_that_was_looked_after(redis_url: str) -> None:
    async with http_rig(redis_url) as rig:
        late = await rig.http.post("/runs/a/events", json={}, headers={"Prefer": "wait=2.5"})  # seen by the sweep

        assert late.status_code == 202
        assert (await rig.http.post("/runs/b/events", json={}, headers={"Prefer": "wait=0"})).status_code == 202


@pytest.mark.parametrize("path", ["/workflow/start", "/runs/a"])
async def test_callers_on_other_ways_that_go_are_not_waited_for(redis_url: str, path: str) -> None:
    async with http_rig(redis_url) as rig:
        await rig.begin("a")
        if path == "/runs/a":
            etag = (await rig.http.get(path)).headers["ETag"]
            calling = rig.http.get(path, headers={**LONG, "If-None-Match": etag})
        else:
            root = rig.http.base_url.copy_with(path=path)
            calling = rig.http.post(root, json={"workflow": "talk", "key": "b", "data": {}}, headers=LONG)
        caller = asyncio.create_task(calling)
        await waiting(rig, 1)
        await go_away([caller])

        await waiting(rig, 0)
