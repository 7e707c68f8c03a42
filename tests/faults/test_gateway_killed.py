"""B20, B28, B29, G4: gateways, worker and store are killed under calls; nobody who was answered 2xx was told a lie.

Two gateways and a worker, each a process of its own, on a store of the test's own that syncs each write.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis.asyncio

from gateway_site import CALLERS, RUNS, Site, caller, site_of, until_ready
from headrace.embedded import Valkey
from waiting import until_async

pytestmark = pytest.mark.slow


@pytest.fixture
def site(own_valkey: Valkey, tmp_path: Path) -> Iterator[Site]:
    with site_of(own_valkey, tmp_path) as site:
        yield site


@pytest.fixture
async def store(own_valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(own_valkey.url) as client:
        yield client


async def requests_in(store: redis.asyncio.Redis) -> int:
    """Requests that lie in the inboxes and are not done."""
    return sum([await store.xlen(key) for key in await store.keys("hr:{orders/*}:inbox")])


async def test_a_gateway_is_killed_with_many_callers_waiting_and_each_finds_its_result_at_another(
    site: Site, store: redis.asyncio.Redis
) -> None:
    first, second = site.gateway(), site.gateway()
    async with caller(first) as http, caller(second) as other:
        await until_ready(http)
        await until_ready(other)

        async def call(client: httpx.AsyncClient, number: int) -> httpx.Response:
            headers = {"Idempotency-Key": f"call-{number}", "Prefer": "wait=30"}
            return await client.post(f"{RUNS}/r{number}/events", json={"what": "finish"}, headers=headers)

        worker = psutil.Process(site.worker.process.pid)
        worker.suspend()
        calls = [asyncio.create_task(call(http, number)) for number in range(CALLERS)]
        await until_async(lambda: _are_in(store, CALLERS), "all requests are in")
        site.kill(site.gateways[0])
        lost = await asyncio.gather(*calls, return_exceptions=True)
        worker.resume()

        again = await asyncio.gather(*(call(other, number) for number in range(CALLERS)))
        results = await asyncio.gather(*(other.get(f"{RUNS}/r{number}/result") for number in range(CALLERS)))

    assert all(isinstance(each, httpx.TransportError) for each in lost)
    assert [(answer.status_code, answer.json()) for answer in again] == [
        (200, {"run": f"r{number}", "count": 1, "items": 0}) for number in range(CALLERS)
    ]
    assert {answer.headers.get("idempotent-replayed") for answer in again} == {"true"}
    assert [(answer.status_code, answer.json()) for answer in results] == [(200, {"count": 1})] * CALLERS


async def _are_in(store: redis.asyncio.Redis, count: int) -> bool:
    return await requests_in(store) == count


@pytest.mark.parametrize("seed", [1, 2])
async def test_G4_what_was_answered_202_survives_a_kill_of_gateway_worker_and_store(site: Site, seed: int) -> None:
    numbers = itertools.count()
    accepted: list[str] = []
    refused = Counter[int]()

    async def call_again_and_again(http: httpx.AsyncClient) -> None:
        with suppress(httpx.TransportError):
            while True:
                key = f"r{next(numbers)}"
                answer = await http.post(
                    f"{RUNS}/{key}/events", json={"what": "hello"}, headers={"Prefer": "respond-async"}
                )
                if answer.status_code == httpx.codes.ACCEPTED:
                    assert answer.headers["headrace-durability"] == "fsync"
                    accepted.append(key)
                else:
                    refused[answer.status_code] += 1

    async with caller(site.gateway()) as http:
        await until_ready(http)
        calls = [asyncio.create_task(call_again_and_again(http)) for _ in range(20)]
        await until_async(lambda: len(accepted) > 100 * seed, "many are accepted")
        site.kill(site.gateways[0], site.worker)
        site.store.kill()
        await asyncio.gather(*calls)

    await asyncio.to_thread(site.store.start)
    await asyncio.to_thread(site.begin_work)
    async with caller(site.gateway()) as http:
        await until_ready(http)
        again = await asyncio.gather(
            *(http.post(f"{RUNS}/{key}/events", json={"what": "hello"}, headers={"Prefer": "wait=30"})
              for key in accepted)
        )  # fmt: skip

    # Each of these is the second of its run: the first was processed, and once.
    assert Counter(answer.json()["count"] for answer in again) == {2: len(accepted)}
    assert not refused - Counter({503: len(accepted)})


async def test_B20_calls_with_one_idempotency_key_at_two_gateways_are_one_run(site: Site) -> None:
    first, second = site.gateway(), site.gateway()
    async with caller(first) as http, caller(second) as other:
        await until_ready(http)
        await until_ready(other)
        headers = {"Idempotency-Key": "one", "Prefer": "wait=30"}
        answers = await asyncio.gather(
            *(client.post(RUNS, json={"what": "hello"}, headers=headers) for client in (http, other) * CALLERS)
        )
        runs = (await http.get(RUNS)).json()["runs"]

    assert len(answers) == 2 * CALLERS
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["count"] for answer in answers} == {1}
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 199}
    assert len(runs) == 1
    assert {answer.headers["content-location"] for answer in answers} == {f"{RUNS}/{runs[0]['key']}"}


async def test_B29_the_gateway_s_connections_are_cut_again_and_again_and_no_answer_is_lost_or_wrong(
    site: Site, store: redis.asyncio.Redis
) -> None:
    async with caller(site.gateway()) as http:
        await until_ready(http)
        process = psutil.Process(site.gateways[0].process.pid)

        async def call(number: int) -> httpx.Response:
            headers = {"Idempotency-Key": f"call-{number}", "Prefer": "wait=30"}
            return await http.post(f"{RUNS}/r{number}/events", json={"what": "hello"}, headers=headers)

        answers: list[httpx.Response] = []
        cuts = 0
        for batch in range(5):
            calls = [asyncio.create_task(call(batch * 20 + number)) for number in range(20)]
            while not all(each.done() for each in calls):
                cut = await _cut(store, process)
                if cut:
                    cuts += 1
                    break
            answers += await asyncio.gather(*calls)
        runs = [await http.get(f"{RUNS}/r{number}") for number in range(len(answers))]

    assert cuts == 5
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert [answer.json() for answer in answers if answer.status_code == httpx.codes.OK] == [
        {"run": f"r{number}", "count": 1, "items": 0}
        for number, answer in enumerate(answers) if answer.status_code == httpx.codes.OK
    ]  # fmt: skip
    assert {answer.status_code for answer in runs} == {200}


async def _cut(store: redis.asyncio.Redis, process: psutil.Process) -> int:
    """Cut all connections of a process to the store, those that listen included; how many there were."""
    port = store.connection_pool.connection_kwargs["port"]
    theirs = {each.laddr.port for each in process.net_connections("tcp") if each.raddr and each.raddr.port == port}
    rows: list[dict[str, Any]] = await store.client_list()
    found = [row["id"] for row in rows if int(row["addr"].rpartition(":")[2]) in theirs]
    return sum([await store.client_kill_filter(_id=id_) for id_ in found])
