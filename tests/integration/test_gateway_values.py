"""Values of runs over HTTP: read at once, and waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from headrace.gateway import value_watch
from http_rig import Rig, http_rig
from waiting import until_async

WAIT = {"Prefer": "wait=20"}


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with http_rig(redis_url) as rig:
        yield rig


async def waiting(rig: Rig, count: int) -> None:
    await until_async(lambda: rig.gateway.values.waiting == count, f"{count} wait")


def asked(rig: Rig, name: str = "k", **headers: str) -> asyncio.Task[httpx.Response]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return asyncio.create_task(rig.http.get(f"/runs/a/values/{name}", headers={**WAIT, **named}))


async def test_E01_E02_values_of_a_run_that_has_ended_and_null_is_one(rig: Rig) -> None:
    await rig.begin(k1=(1, {"x": 1}), k2=(3, None))
    await rig.end()

    k1, k2 = await rig.http.get("/runs/a/values/k1"), await rig.http.get("/runs/a/values/k2")
    assert (k1.status_code, k1.json(), k1.headers["headrace-version"]) == (200, {"x": 1}, "1")
    assert (k2.status_code, k2.content, k2.headers["etag"]) == (200, b"null", '"1.3"')
    assert (await rig.http.get("/runs/a/values")).json() == {
        "number": 1, "status": "completed", "values": {"k1": {"x": 1}, "k2": None}, "versions": {"k1": 1, "k2": 3}
    }  # fmt: skip


async def test_E03_what_is_not_there(rig: Rig) -> None:
    unknown = await rig.http.get("/runs/nobody/values/k", headers=WAIT)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")
    assert (await rig.http.get("/runs/nobody/values")).json()["code"] == "unknown_run"

    await rig.begin()
    unset = await rig.http.get("/runs/a/values/k", headers={"Prefer": "wait=1"})
    assert (unset.status_code, unset.content) == (204, b"")
    waiter = asked(rig)
    await waiting(rig, 1)
    await rig.end()
    never = await waiter
    assert (never.status_code, never.json()["code"], never.json()["run_status"]) == (
        404,
        "value_never_set",
        "completed",
    )
    assert (await rig.http.get("/runs/a/values/k", headers=WAIT)).json()["code"] == "value_never_set"


async def test_E06_E11_who_waits_gets_it_by_its_commit_and_nobody_is_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_watch, "PERIOD", 3600.0)  # what is found is found because the commit has said so
    await rig.begin()
    first, second, other = asked(rig), asked(rig), asked(rig, "other")
    await waiting(rig, 3)
    await until_async(lambda: rig.gateway.listener.listening, "what is said comes in")
    await until_async(lambda: ears(rig), "the run is listened to")
    await rig.begin(k=(1, "now"))

    async with asyncio.timeout(15):  # less than they wait for, in vain
        answers = await asyncio.gather(first, second)
    assert [answer.json() for answer in answers] == ["now", "now"]
    await waiting(rig, 1)
    other.cancel()
    await waiting(rig, 0)
    await until_async(lambda: rig.gateway.listener.topics == 0, "nobody listens any more")

    etag = answers[0].headers["etag"]
    again = asked(rig, If_None_Match=etag)
    await waiting(rig, 1)
    await until_async(lambda: ears(rig), "the run is listened to again")
    await rig.begin(k=(2, "then"))
    async with asyncio.timeout(15):
        assert (await again).json() == "then"
    await waiting(rig, 0)

    async def is_quiet() -> bool:
        return not await ears(rig)

    await until_async(is_quiet, "the channel of the run's partition is given up")


async def ears(rig: Rig) -> int:
    """How many listen to what changes in the partition, as the store has it."""
    ((_, count),) = await rig.store.client.pubsub_numsub(rig.store.keys(0).changes)
    return int(count)


async def test_E08_the_next_version_is_waited_for(rig: Rig) -> None:
    await rig.begin(k=(1, "one"))
    await rig.begin(k=(2, "two"))
    latest = await rig.http.get("/runs/a/values/k")
    etag = latest.headers["etag"]
    assert (latest.json(), etag, latest.headers["headrace-version"]) == ("two", '"1.2"', "2")
    assert (await rig.http.get("/runs/a/values/k", headers={"If-None-Match": etag})).status_code == 304
    assert (
        await rig.http.get("/runs/a/values/k", headers={"If-None-Match": etag, "Prefer": "wait=1"})
    ).status_code == 304

    waiter = asked(rig, If_None_Match=etag)
    await waiting(rig, 1)
    await rig.begin(k=(3, "three"))
    assert ((await waiter).json(), (await waiter).headers["etag"]) == ("three", '"1.3"')


async def test_a_value_of_the_run_before_is_not_taken_for_that_of_the_next_one(rig: Rig) -> None:
    await rig.begin(k=(1, "old"))
    etag = (await rig.http.get("/runs/a/values/k")).headers["etag"]
    await rig.commit(runs={"a": ["status", "running", "number", "2", "value:k", '1 "new"']}, fresh=["a"], changed=["a"])

    again = await rig.http.get("/runs/a/values/k", headers={"If-None-Match": etag, **WAIT})
    assert (again.status_code, again.json()) == (200, "new")


async def test_E15_a_thousand_wait_by_one_connection_to_the_store(rig: Rig) -> None:
    await rig.begin()
    database = str(rig.store.client.connection_pool.connection_kwargs["db"])
    threads = threading.active_count()
    waiters = [asked(rig, f"k{number % 4}") for number in range(1000)]
    await waiting(rig, 1000)

    hearing = (rig.gateway.bridge, rig.gateway.listener)
    await until_async(lambda: all(each.listening for each in hearing), "both connections hear")
    clients = await rig.store.client.client_list(_type="pubsub")
    assert len([row for row in clients if row["db"] == database]) == 2  # one for replies, one for changes
    assert threading.active_count() <= threads
    assert (await rig.http.get(str(rig.http.base_url.copy_with(raw_path=b"/healthz")))).status_code == 200
    await rig.begin(k0=(1, 0), k1=(1, 1), k2=(1, 2), k3=(1, 3))
    answers = await asyncio.gather(*waiters)
    assert [answer.json() for answer in answers] == [number % 4 for number in range(1000)]


async def test_a_value_that_nobody_was_told_of_is_found(rig: Rig) -> None:
    await rig.begin()
    waiter = asked(rig)
    await waiting(rig, 1)
    await rig.commit(runs={"a": ["status", "running", "number", "1", "value:k", '1 "quiet"']})  # its worker died then

    began = time.monotonic()
    assert (await waiter).json() == "quiet"
    assert time.monotonic() - began < 15
