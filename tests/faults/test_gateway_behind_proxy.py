"""B29: between a gateway and its store there is a proxy, which does what proxies do; no answer is lost or wrong.

It carries answers byte by byte, ends connections amid an answer or while nothing comes, and leaves them open and says
nothing any more. A worker on the same store goes on all the time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway_site import RUNS, Site, caller, site_of, until_ready
from headrace.embedded import Valkey
from headrace.gateway.gateway import Gateway
from headrace.gateway.serving import GatewayThread
from headrace.gateway.settings import GatewaySettings
from proxy import Proxy
from waiting import until_async

WITHIN = 60.0
"""Seconds for a call to have its result, whatever is cut meanwhile."""

pytestmark = pytest.mark.slow


@pytest.fixture
def site(own_valkey: Valkey, tmp_path: Path) -> Iterator[Site]:
    with site_of(own_valkey, tmp_path) as site:
        yield site


@pytest.fixture
def proxy(own_valkey: Valkey) -> Iterator[Proxy]:
    with Proxy(own_valkey.port) as proxy:
        yield proxy


@pytest.fixture
def thread(site: Site, proxy: Proxy) -> Iterator[GatewayThread]:
    yield GatewayThread(f"redis://{proxy.address}/0", GatewaySettings(port=0))


@pytest.fixture
async def http(thread: GatewayThread) -> AsyncIterator[httpx.AsyncClient]:
    address = await asyncio.to_thread(thread.__enter__)
    async with caller(address) as http:
        await until_ready(http)
        yield http
    await asyncio.to_thread(thread.__exit__, None, None, None)


async def call(http: httpx.AsyncClient, key: str, wait: int = 20) -> httpx.Response:
    """The first event of a run, the same one however often it is sent."""
    headers = {"Idempotency-Key": "first", "Prefer": f"wait={wait}"}
    return await http.post(f"{RUNS}/{key}/events", json={"what": "hello"}, headers=headers)


async def has_result(http: httpx.AsyncClient, key: str) -> None:
    """Sent again, it has the result of having been processed once; and then the next one is the second."""

    async def found() -> httpx.Response | None:
        answer = await call(http, key)
        return answer if answer.status_code == httpx.codes.OK else None

    answer = await until_async(found, f"{key} has its result", within=WITHIN)
    assert answer.json() == {"run": key, "count": 1, "items": 0}
    second = await http.post(f"{RUNS}/{key}/events", json={"what": "hello"}, headers={"Prefer": "wait=30"})
    assert (second.status_code, second.json()["count"]) == (200, 2)


async def test_B29_answers_of_the_store_come_byte_by_byte(http: httpx.AsyncClient, proxy: Proxy) -> None:
    proxy.chop(1)

    answers = await asyncio.gather(*(call(http, f"r{number}") for number in range(30)))

    assert Counter(answer.status_code for answer in answers) == {200: 30}
    assert [answer.json()["run"] for answer in answers] == [f"r{number}" for number in range(30)]
    proxy.chop(1 << 16)
    await asyncio.gather(*(has_result(http, f"r{number}") for number in range(30)))


async def test_B29_connections_are_cut_amid_answers_of_the_store_wherever(
    http: httpx.AsyncClient, proxy: Proxy
) -> None:
    numbers = itertools.count()
    first = Counter[int]()
    keys: list[str] = []
    sizes = (*range(60), *range(60, 1500, 97))
    for cuts, size in enumerate(sizes):
        proxy.cut_after(size)
        while proxy.cuts == cuts:
            batch = [f"r{next(numbers)}" for _ in range(3)]
            answers = await asyncio.gather(*(call(http, key) for key in batch))
            first.update(answer.status_code for answer in answers)
            assert all(
                answer.json() == {"run": key, "count": 1, "items": 0}
                for key, answer in zip(batch, answers, strict=True) if answer.status_code == httpx.codes.OK
            )  # fmt: skip
            keys += batch
    print(f"\n{proxy.cuts} cuts; at first: {dict(first)}")

    assert proxy.cuts == len(sizes)
    for some in range(0, len(keys), 30):
        await asyncio.gather(*(has_result(http, key) for key in keys[some : some + 30]))
    assert set(first) <= {200, 202}, "one cut is nobody's trouble"


async def test_B29_connections_that_were_cut_while_nothing_came_are_nobody_s_trouble(
    http: httpx.AsyncClient, proxy: Proxy
) -> None:
    found = Counter[int]()
    for number in range(20):
        await asyncio.gather(*(call(http, f"r{number}-{each}") for each in range(5)))
        proxy.cut()
        proxy.heal()
        answers = await asyncio.gather(*(call(http, f"s{number}-{each}") for each in range(5)))
        looks = await asyncio.gather(*(http.get(f"{RUNS}/r{number}-{each}") for each in range(5)))
        found.update(answer.status_code for answer in (*answers, *looks))

    assert found == {200: 200}


async def test_B29_a_proxy_that_says_nothing_any_more_costs_no_answer(
    site: Site, http: httpx.AsyncClient, thread: GatewayThread, proxy: Proxy
) -> None:
    gateway: Gateway = thread.app.state.gateway
    worker = psutil.Process(site.worker.process.pid)
    worker.suspend()
    calls = [asyncio.create_task(call(http, f"r{number}", wait=4)) for number in range(20)]
    await until_async(lambda: gateway.bridge.waiting == 20, "all wait")
    await until_async(lambda: _are_in(site, 20), "all are in")
    proxy.stall()
    worker.resume()
    answers = await asyncio.gather(*calls)
    alive = await http.get("/healthz")
    later = await call(http, "later", wait=1)
    proxy.heal()

    assert Counter(answer.status_code for answer in answers) == {202: 20}
    assert [answer.headers["location"] for answer in answers] == [f"{RUNS}/r{number}" for number in range(20)]
    assert alive.status_code == 200
    assert (later.status_code, later.json()["code"]) == (503, "store_unavailable")
    await asyncio.gather(*(has_result(http, f"r{number}") for number in range(20)))
    await has_result(http, "later")


async def _are_in(site: Site, count: int) -> bool:
    from redis.asyncio import Redis  # noqa: PLC0415  only here

    async with Redis.from_url(site.store.url) as store:
        return sum([await store.xlen(key) for key in await store.keys("hr:{orders/*}:inbox")]) == count
