"""B32, G1: processes are killed while a node is executed out of line: its caller is told, and what is kept, is once.

By one process that does all the work, with gateways beside it; and on Ray, where worker and node are processes of
their own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway_site import Site, caller, site_of, until_ready
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from http_cluster import FLOWS, PATIENCE, HttpCluster, http_cluster
from waiting import until_async

RUNS = "/v1/workflows/mending/runs"
AGAIN = (httpx.codes.ACCEPTED, httpx.codes.SERVICE_UNAVAILABLE)
"""Answers after which the request is sent again, with its key."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COMMITS = pytest.mark.parametrize("commit", [True, False], ids=["kept", "tried"])


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


@pytest.fixture
def site(own_valkey: Valkey, tmp_path: Path) -> Iterator[Site]:
    with site_of(own_valkey, tmp_path, (FLOWS / "mending.py").read_text()) as site:
        yield site


class Bench:
    """A run that waits, and a node of it that is executed until it may go on."""

    def __init__(self, http: httpx.AsyncClient, key: str, folder: Path) -> None:
        self.http, self.key, self._folder = http, key, folder
        self._headers = {"Idempotency-Key": secrets.token_hex(8), "Prefer": "wait=30"}

    @property
    def calls(self) -> list[str]:
        """What the node has been called for."""
        file = self._folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def let_go(self) -> None:
        """The node goes on."""
        (self._folder / "go").touch()

    async def begin(self) -> None:
        """The run stands at its wait."""
        begun = await self.http.post(
            f"{RUNS}/{self.key}/events", json={"what": "lamp"}, headers={"Prefer": "wait=30", "Idempotency-Key": "1"}
        )
        assert (begun.status_code, begun.json()) == (200, {"mended": ["lamp"]}), begun.text

    async def ask(self, http: httpx.AsyncClient, *, commit: bool) -> httpx.Response:
        """Have the node executed; the same request, however often."""
        order = {"what": "vase", "folder": str(self._folder)}
        params = {"commit": "true"} if commit else {}
        return await http.post(f"{RUNS}/{self.key}/nodes/mend", json=order, params=params, headers=self._headers)

    async def until_answered(self, http: httpx.AsyncClient, *, commit: bool) -> httpx.Response:
        """Ask until there is a result."""

        async def answered() -> httpx.Response | None:
            answer = await self.ask(http, commit=commit)
            return None if answer.status_code in AGAIN else answer

        found: httpx.Response = await until_async(answered, "there is a result", within=PATIENCE)
        return found

    async def until_under_way(self, times: int = 1) -> None:
        """It has been called so often."""
        await until_async(lambda: len(self.calls) >= times, "the node is amid it", within=PATIENCE)

    async def is_as_it_should_be(self, http: httpx.AsyncClient, answer: httpx.Response, *, commit: bool) -> None:
        """The answer is right, and what the node did is kept once, or not at all; the run goes on."""
        assert answer.status_code == 200, answer.text
        assert answer.json()["reply"] == {"mended": ["lamp", "vase"]}
        assert answer.json().get("committed", False) is commit
        mended = ["lamp", "vase"] if commit else ["lamp"]
        run = f"{RUNS}/{self.key}"
        values: Any = (await http.get(f"{run}/values")).json()
        notes: Any = (await http.get(f"{run}/streams/notes")).json()
        assert (values["values"], values["versions"]) == ({"mended": len(mended)}, {"mended": len(mended)})
        assert notes["values"] == mended
        again = await self.ask(http, commit=commit)
        assert (again.status_code, again.json()) == (200, answer.json())
        assert again.headers["idempotent-replayed"] == "true"
        calls = len(self.calls)
        third = await http.post(f"{run}/nodes/mend", json={"what": "cup"}, headers={"Prefer": "wait=30"})
        assert third.json()["reply"] == {"mended": [*mended, "cup"]}
        assert len(self.calls) == calls
        gone_on = await http.post(f"{run}/messages/approval", json={"by": "ann"}, headers={"Prefer": "wait=30"})
        assert (gone_on.status_code, gone_on.json()) == (200, {"by": "ann"})


@COMMITS
async def test_B32_a_worker_is_killed_amid_a_node_and_its_caller_is_answered_by_the_next(
    site: Site, tmp_path: Path, key: str, commit: bool
) -> None:
    async with caller(site.gateway()) as http:
        await until_ready(http)
        bench = Bench(http, key, tmp_path)
        await bench.begin()
        asking = asyncio.create_task(bench.until_answered(http, commit=commit))
        await bench.until_under_way()
        site.kill(site.worker)
        beginning = asyncio.create_task(asyncio.to_thread(site.begin_work))
        await bench.until_under_way(2)
        bench.let_go()
        answer = await asking
        await beginning

        assert bench.calls == ["vase", "vase"], "the next worker has had it executed again"
        await bench.is_as_it_should_be(http, answer, commit=commit)


@COMMITS
async def test_B32_a_gateway_is_killed_amid_a_node_and_its_caller_is_answered_by_another(
    site: Site, tmp_path: Path, key: str, commit: bool
) -> None:
    first, second = site.gateway(), site.gateway()
    async with caller(first) as http, caller(second) as other:
        await until_ready(http)
        await until_ready(other)
        bench = Bench(http, key, tmp_path)
        await bench.begin()
        asking = asyncio.create_task(bench.ask(http, commit=commit))
        await bench.until_under_way()
        site.kill(site.gateways[0])
        with pytest.raises(httpx.TransportError):
            await asking
        again = asyncio.create_task(bench.until_answered(other, commit=commit))
        bench.let_go()
        answer = await again

        assert answer.headers["idempotent-replayed"] == "true"
        assert bench.calls == ["vase"], "it went on, whoever had asked"
        await bench.is_as_it_should_be(other, answer, commit=commit)


@COMMITS
async def test_B32_gateway_worker_and_store_are_killed_amid_a_node_and_it_counts_once(
    site: Site, tmp_path: Path, key: str, commit: bool
) -> None:
    async with caller(site.gateway()) as http:
        await until_ready(http)
        bench = Bench(http, key, tmp_path)
        await bench.begin()
        asking = asyncio.create_task(bench.ask(http, commit=commit))
        await bench.until_under_way()
        site.kill(*site.gateways, site.worker)
        site.store.kill()
        with pytest.raises(httpx.TransportError):
            await asking
    bench.let_go()
    await asyncio.to_thread(site.store.start)
    await asyncio.to_thread(site.begin_work)
    async with caller(site.gateway()) as http:
        await until_ready(http)
        answer = await bench.until_answered(http, commit=commit)

        assert answer.headers["idempotent-replayed"] == "true", "it had been accepted"
        await bench.is_as_it_should_be(http, answer, commit=commit)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Of the tests on Ray."""
    with Valkey(folder=tmp_path_factory.mktemp("store") / "valkey", appendfsync="always") as server:
        yield server


@pytest.fixture(scope="module")
def cluster(ray_cluster: LocalRay, store: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpCluster]:
    """One worker, its node and a spare."""
    with http_cluster(tmp_path_factory.mktemp("mending"), store.url, "mending", durability="fsync") as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: HttpCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(cluster.address) as http:
        yield http


@pytest.mark.cluster
async def test_B32_a_node_that_kills_its_process_each_time_is_told_to_the_caller(
    cluster: HttpCluster, http: httpx.AsyncClient, tmp_path: Path, key: str
) -> None:
    bench = Bench(http, key, tmp_path)  # the first on this cluster: deaths of workers within a minute count as well
    await bench.begin()
    asking = asyncio.create_task(bench.until_answered(http, commit=True))
    pids = set()
    for death in range(1, 4):
        await bench.until_under_way(death)
        pids.add(pid := await asyncio.to_thread(cluster.pid, "mend/0"))
        os.kill(pid, signal.SIGKILL)
    answer = await asking
    document = answer.json()
    run = await http.get(f"{RUNS}/{key}/values")

    assert len(pids) == 3
    assert (answer.status_code, document["code"], document["node"], document["reason"]) == (
        422, "failed", "mend", "poison",
    )  # fmt: skip
    assert run.json()["values"] == {"mended": 1}
    assert len(bench.calls) == 3


@pytest.mark.cluster
@COMMITS
@pytest.mark.parametrize("name", ["worker/0", "mend/0"])
async def test_B32_whoever_is_killed_amid_a_node_its_caller_is_answered(
    cluster: HttpCluster, http: httpx.AsyncClient, tmp_path: Path, key: str, name: str, commit: bool
) -> None:
    bench = Bench(http, key, tmp_path)
    await bench.begin()
    pid = await asyncio.to_thread(cluster.pid, name)
    asking = asyncio.create_task(bench.until_answered(http, commit=commit))
    await bench.until_under_way()
    os.kill(pid, signal.SIGKILL)
    await until_async(lambda: cluster.pid(name) != pid, "its successor serves", within=PATIENCE)
    bench.let_go()  # also the call of an owner that has gone: the next one's comes behind it
    answer = await asking

    assert bench.calls == ["vase", "vase"], "the successor has had it executed again"
    await bench.is_as_it_should_be(http, answer, commit=commit)
