"""Gateway processes are replaced and end under load: no call fails that is made again as the client does it.

A worker, and one or several gateway processes at one port.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway_site import PATIENCE, RUNS, Site, caller, site_of, until_ready
from headrace import AsyncClient
from headrace.embedded import Valkey
from waiting import until, until_async

AT_ONCE = 4
DRAIN = 3.0
"""Seconds: less than any deadline here, and more than a few calls take."""

pytestmark = pytest.mark.slow


@pytest.fixture
def site(own_valkey: Valkey, tmp_path: Path) -> Iterator[Site]:
    with site_of(own_valkey, tmp_path) as site:
        yield site


def answering(site: Site) -> set[int]:
    """Process ids of the gateway's processes that answer."""
    found = set()
    for child in site.gateways[0].family():
        with suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


async def replace_all(site: Site) -> None:
    """Have each process replaced; again, where the machine was so busy that the next one was not up in time."""
    ran, before = site.gateways[0], answering(site)
    asked = 0

    def are_replaced() -> bool:
        nonlocal asked
        if ran.text.count("aborting the restart") >= asked:
            asked += 1
            ran.process.send_signal(signal.SIGHUP)
        now = answering(site)
        return len(now) == 2 and not now & before

    await until_async(are_replaced, "all are replaced", within=4 * PATIENCE)


@pytest.mark.timeout(900)
async def test_processes_that_are_replaced_one_by_one_under_load_fail_no_call(site: Site) -> None:
    address = site.gateway("--processes", "2")
    numbers = itertools.count()
    done: list[str] = []
    later: list[str] = []
    is_over = asyncio.Event()

    async def call_again_and_again(client: AsyncClient) -> None:
        while not is_over.is_set():
            key = f"r{next(numbers)}"
            run = await client.runs("orders").start({"what": "hello"}, key=key)
            assert run.answer is not None
            if run.answer.status == "accepted":  # its process was to end while it waited
                later.append(key)
            else:
                assert (run.answer.status, run.answer.value["count"]) == ("reply", 1)
                done.append(key)
            await asyncio.sleep(0.05)  # processes are to start beside it

    async with caller(address) as http:
        await until_ready(http)
        first = await until_async(
            lambda: found if len(found := answering(site)) == 2 else None, "two processes answer", within=PATIENCE
        )
        async with AsyncClient(address) as client:
            calls = [asyncio.create_task(call_again_and_again(client)) for _ in range(AT_ONCE)]
            await replace_all(site)
            many = len(done) + 100
            await until_async(
                lambda: len(done) > many or any(call.done() for call in calls), "they answer", within=PATIENCE
            )
            is_over.set()
            await asyncio.gather(*calls)
        some = done[::10] + later
        again = await asyncio.gather(*(http.post(f"{RUNS}/{key}/events", json={"what": "hello"}) for key in some))

    print(f"\n{len(done)} calls were answered, {len(later)} were told to look later")
    assert len({*done, *later}) == len(done) + len(later)
    assert Counter(answer.json()["count"] for answer in again) == {2: len(again)}, "each of these is the second one"
    assert not first & answering(site)


async def test_a_process_that_is_to_end_says_so_and_answers_until_nobody_sends_it_anything(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "desk" / "headrace.toml").write_text(f"[gateway]\ndrain_seconds = {DRAIN}\n")
    address = site.gateway()
    ran = site.gateways[0]

    async def ask(path: str, body: Any = None) -> httpx.Response:
        """By a connection of its own, as a balancer does that knows of nothing yet."""
        async with caller(address) as http:
            return await (http.get(path) if body is None else http.post(path, json=body))

    async with caller(address) as http:
        await until_ready(http)
        await http.post(f"{RUNS}/r1/events", json={"what": "wait"})
        waiting = asyncio.create_task(
            http.post(f"{RUNS}/r1/messages/approval", json={"by": "ann"}, headers={"Prefer": "wait=20"})
        )
        ran.process.send_signal(signal.SIGTERM)

        async def is_leaving() -> httpx.Response | None:
            answer = await ask("/readyz")
            return answer if answer.status_code != 200 else None

        ready = await until_async(is_leaving, "it says that it is about to end")
        alive, called = await ask("/healthz"), await ask(f"{RUNS}/r2/events", {"what": "hello"})
        approved = await waiting

    assert (ready.status_code, ready.json()["code"], ready.headers["connection"]) == (503, "stopping", "close")
    assert (alive.status_code, called.status_code, called.json()["count"]) == (200, 200, 1)
    assert called.headers["connection"] == "close"
    assert (approved.status_code, approved.json()) == (200, {"approved": "ann"})
    assert await asyncio.to_thread(ran.ends, PATIENCE) == 0
    assert "The gateway has stopped." in ran.text


def test_who_tells_it_to_end_twice_does_not_wait(site: Site, tmp_path: Path) -> None:
    (tmp_path / "desk" / "headrace.toml").write_text("[gateway]\ndrain_seconds = 3600\n")
    address = site.gateway()
    ran = site.gateways[0]
    until(lambda: httpx.get(f"{address}/healthz").status_code == 200, "it answers", within=PATIENCE)

    ran.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{address}/readyz").status_code == 503, "it says that it is about to end")
    ran.process.send_signal(signal.SIGTERM)

    assert ran.ends(PATIENCE) == 0
