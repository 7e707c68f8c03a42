"""A run whose first request lies in the inbox: whoever was told where it is finds it there, and not the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from headrace.actors.run_heads import RunPlace, run_heads
from headrace.actors.store_registry import Registry
from http_rig import WORKFLOW, Rig, http_rig

AT_ONCE = {"Prefer": "respond-async"}


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with http_rig(redis_url) as rig:
        yield rig


async def accept(rig: Rig, key: str = "a") -> httpx.Response:
    answer = await rig.http.post(f"/runs/{key}/events", json={"what": "hello"}, headers=AT_ONCE)
    assert answer.status_code == 202, answer.text
    return answer


async def done_with(rig: Rig, **parts: object) -> None:
    """Commit the epoch of what is in the inbox."""
    ((entry, _),) = await rig.store.client.xrevrange(rig.store.keys(0).inbox, count=1)
    await rig.commit(positions={"inbox": entry.decode()}, **parts)


async def test_an_accepted_run_is_at_its_location(rig: Rig) -> None:
    accepted = await accept(rig)
    links = accepted.json()["links"]
    root = httpx.URL(rig.http.base_url).join("/")

    home = await rig.http.get(root.join(accepted.headers["location"]))
    result = await rig.http.get(root.join(links["result"]))
    values = await rig.http.get(root.join(links["values"]))
    one = await rig.http.get("/runs/a/values/progress", headers={"Prefer": "wait=0"})
    stream = await rig.http.get("/runs/a/streams/words")
    end = await rig.http.post(root.join(links["terminate"]))

    assert (home.status_code, home.json()["status"], home.json()["number"]) == (200, "accepted", 0)
    assert (result.status_code, result.headers["retry-after"]) == (202, "1")
    assert (values.status_code, values.json()["status"], values.json()["values"]) == (200, "accepted", {})
    assert one.status_code == 204
    assert (stream.status_code, stream.json()["values"], stream.json()["ended"]) == (200, [], None)
    assert (end.status_code, end.json()["code"], end.headers["retry-after"]) == (409, "run_starting", "1")


async def test_it_is_the_run_itself_once_its_request_is_done(rig: Rig) -> None:
    await accept(rig)
    etag = (await rig.http.get("/runs/a")).headers["etag"]
    watching = asyncio.create_task(rig.http.get("/runs/a", headers={"If-None-Match": etag, "Prefer": "wait=20"}))
    await asyncio.sleep(0.3)
    assert not watching.done()  # nothing has changed for who waits for a change
    await done_with(rig, runs={"a": ["status", "running", "number", "7"]}, changed=["a"])

    begun = await watching

    assert (begun.json()["status"], begun.json()["number"]) == ("running", 7)


async def test_a_request_that_begins_nothing_leaves_no_run(rig: Rig) -> None:
    await accept(rig)
    await done_with(rig)

    assert (await rig.http.get("/runs/a")).json()["code"] == "unknown_run"
    assert (await rig.http.get("/runs/a/values")).json()["code"] == "unknown_run"
    assert (await rig.http.get("/runs/a/streams/words")).json()["code"] == "unknown_run"


async def test_a_key_that_is_used_again_does_not_show_the_run_before(rig: Rig) -> None:
    await rig.begin(progress=(1, "all"))
    await rig.write("old")
    await rig.end()
    ended = await rig.http.get("/runs/a/values/progress")
    await accept(rig)

    home = await rig.http.get("/runs/a")
    result = await rig.http.get("/runs/a/result")
    value = await rig.http.get("/runs/a/values/progress", headers={"Prefer": "wait=0"})
    stream = await rig.http.get("/runs/a/streams/s")

    assert ended.json() == "all"
    assert (home.json()["status"], result.status_code, value.status_code) == ("accepted", 202, 204)
    assert (stream.json()["values"], stream.json()["ended"]) == ([], None)


async def test_a_follower_of_an_accepted_run_has_its_stream_when_it_comes(rig: Rig) -> None:
    await rig.begin()
    await rig.end()
    await accept(rig)
    following = asyncio.create_task(rig.follow())
    await asyncio.sleep(0.3)
    assert not following.done()
    await done_with(rig, runs={"a": ["status", "running", "number", "2"]}, changed=["a"])
    await rig.end(number=2)

    assert b"event: end" in await asyncio.wait_for(following, 20)


async def test_heads_of_many_runs_tell_those_that_are_about_to_begin(rig: Rig, redis_url: str) -> None:
    await rig.begin("there")
    await accept(rig, "soon")

    async with Registry(redis_url) as registry:
        heads = await run_heads(registry, [RunPlace(WORKFLOW, 0, key) for key in ("there", "soon", "never")])

    assert [head and head.status for head in heads] == ["running", "accepted", None]
