"""S12, M4, G4 over HTTP on Ray: nodes, worker and store are killed while streams are written and runs wait.

Who follows does as the documentation says: it drops what a `reset` names, and goes on behind the last id it has had.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from headrace import AsyncClient
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from headrace.workflows.run_streams import order_of
from http_cluster import PATIENCE, HttpCluster, http_cluster
from waiting import until_async

WORDS = 20
PAUSE = 0.05
"""Seconds between two words: there is time to be killed."""

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Of these tests: each write is on disk when it is answered."""
    with Valkey(folder=tmp_path_factory.mktemp("store") / "valkey", appendfsync="always") as server:
        yield server


@pytest.fixture(scope="module")
def site(ray_cluster: LocalRay, store: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpCluster]:
    """One worker, its nodes and a spare; all tests hit the same ones, one after the other."""
    folder = tmp_path_factory.mktemp("faults")
    with http_cluster(folder, store.url, "cases", durability="fsync") as site:
        yield site


@pytest.fixture
async def http(site: HttpCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as http:
        yield http


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


class Reader:
    """What somebody has of a stream, as it comes."""

    def __init__(self) -> None:
        self.values: list[tuple[tuple[int, int], Any]] = []
        self.resets = 0
        self.last = ""
        self.connections = 0
        self.is_over = False

    def take(self, kind: str, id_: str, value: Any) -> None:
        """One thing that it is told."""
        if kind == "value":
            self.values.append((order_of(id_), value))
        elif kind == "reset":
            self.resets += 1
            self.values = [row for row in self.values if row[0] < order_of(value)]
        self.is_over = kind == "end"
        self.last = id_ or self.last

    @property
    def words(self) -> list[Any]:
        return [value for _, value in self.values]


async def follow(site: HttpCluster, key: str, reader: Reader) -> None:
    """By server-sent events, until the run is over."""
    async with AsyncClient(site.address) as client:
        async for event in client.runs(site.workflow).get(key).follow("s"):
            reader.take(event.kind, event.id, event.value)


@asynccontextmanager
async def following(site: HttpCluster, key: str) -> AsyncIterator[Reader]:
    reader = Reader()
    task = asyncio.create_task(follow(site, key, reader))
    yield reader
    async with asyncio.timeout(PATIENCE):
        await task


def words_of(turn: int) -> list[str]:
    return [f"{turn}-{number}" for number in range(WORDS)]


async def write(http: httpx.AsyncClient, key: str, turn: int) -> httpx.Response:
    """A turn, sent again under the same key until it has its reply."""
    headers = {"Prefer": "wait=30", "Idempotency-Key": f"turn-{turn}"}
    body = {"do": "write", "words": words_of(turn), "pause": PAUSE}

    async def replied() -> httpx.Response | None:
        answer = await http.post(f"/runs/{key}/events", json=body, headers=headers)
        return answer if answer.status_code not in (202, 503) else None

    found: httpx.Response = await until_async(replied, f"turn {turn} has its reply", within=PATIENCE)
    return found


async def end(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post(f"/runs/{key}/events", json={"do": "end"}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", ["write/0", "worker/0", "begin/0"])
async def test_S12_whoever_is_killed_while_a_stream_is_written_readers_end_with_what_the_last_attempts_wrote(
    site: HttpCluster, http: httpx.AsyncClient, key: str, name: str
) -> None:
    await http.post(f"/runs/{key}/events", json={"do": "count"}, headers={"Prefer": "wait=30"})
    async with following(site, key) as reader:
        for turn in range(3):
            pid = await asyncio.to_thread(site.pid, name)
            writing = asyncio.create_task(write(http, key, turn))
            await until_async(lambda turn=turn: f"{turn}-5" in reader.words, "it is amid the turn", within=PATIENCE)
            os.kill(pid, signal.SIGKILL)
            answer = await writing
            assert answer.status_code == 200, answer.text
        await end(http, key)
    late = Reader()
    await follow(site, key, late)
    listed = (await http.get(f"/runs/{key}/streams/s")).json()["values"]

    expected = [word for turn in range(3) for word in words_of(turn)]
    assert reader.words == late.words == listed == expected
    assert reader.is_over
    if name != "begin/0":
        assert reader.resets >= 1, "it was told what had been written in vain"


async def test_M04_of_a_wait_only_the_rest_is_waited_when_its_worker_was_killed(
    site: HttpCluster, http: httpx.AsyncClient, key: str
) -> None:
    async def due() -> list[int]:
        async with site.store() as store:
            rows, _ = await store.timers(site.home(key), await store.time() + 60_000, 1000)
            return [time for name, time in rows if key in name]

    await http.post(f"/runs/{key}/events", json={"do": "patient"}, headers={"Prefer": "respond-async"})
    before = await until_async(due, "it stands at its wait", within=PATIENCE)
    os.kill(await asyncio.to_thread(site.pid, "worker/0"), signal.SIGKILL)
    await asyncio.to_thread(site.pid, "worker/0")
    after = await due()

    async def ended() -> Any:
        run = (await http.get(f"/runs/{key}")).json()
        return run if run.get("status") == "completed" else None

    run = await until_async(ended, "nobody has sent anything", within=PATIENCE)
    assert after in (before, []), "when it is over has not changed"
    assert run["result"] == {"waited": 12.0}
    assert datetime.fromisoformat(run["ended"]).timestamp() * 1000 >= before[0]


class Talker:
    """Somebody with a session: sends again what has no reply yet, by the same id, and goes on behind the last id."""

    def __init__(self, site: HttpCluster, key: str) -> None:
        address = site.base.replace("http://", "ws://")
        self._address = f"{address}/runs/{key}/session?stream=s"
        self.reader = Reader()
        self.open: dict[str, Any] = {}
        self.replies: dict[str, list[Any]] = {}
        self._socket: Any = None

    async def talk(self) -> None:
        """Until the stream has ended."""
        while not self.reader.is_over:
            after = f"&last_event_id={self.reader.last}" if self.reader.last else ""
            with suppress(websockets.WebSocketException, OSError):
                async with connect(self._address + after, proxy=None) as socket:
                    self.reader.connections += 1
                    self._socket = socket
                    for frame in list(self.open.values()):
                        await socket.send(json.dumps(frame))
                    while not self.reader.is_over:
                        await self._take(json.loads(await socket.recv()))
            await asyncio.sleep(PAUSE)

    async def say(self, turn: int) -> None:
        data = {"do": "write", "words": words_of(turn), "pause": PAUSE}
        self.open[str(turn)] = {"id": str(turn), "data": data}
        with suppress(websockets.WebSocketException):
            await self._socket.send(json.dumps(self.open[str(turn)]))

    async def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "reply":
                self.replies.setdefault(frame["to"], []).append(frame["data"])
                self.open.pop(frame["to"], None)
            case "error" if frame["to"] in self.open:
                await asyncio.sleep(PAUSE)
                await self._socket.send(json.dumps(self.open[frame["to"]]))
            case "value" | "reset" | "end" as kind:
                said = {"value": "data", "reset": "from", "end": "status"}[kind]
                self.reader.take(kind, frame["id"], frame[said])


async def test_a_store_that_is_restarted_amid_a_session_and_a_stream_makes_no_gap_and_no_repeat(
    site: HttpCluster, store: Valkey, http: httpx.AsyncClient, key: str
) -> None:
    await http.post(f"/runs/{key}/events", json={"do": "count"}, headers={"Prefer": "wait=30"})
    talker = Talker(site, key)
    talking = asyncio.create_task(talker.talk())
    async with following(site, key) as reader:
        await until_async(lambda: talker.reader.connections, "the session is open", within=PATIENCE)
        for turn in range(3):
            await talker.say(turn)
            await until_async(lambda turn=turn: f"{turn}-5" in reader.words, "it is amid the turn", within=PATIENCE)
            store.kill()
            await asyncio.to_thread(store.start)
            await until_async(lambda: not talker.open, f"turn {turn} has its reply", within=PATIENCE)
        await end(http, key)
    async with asyncio.timeout(PATIENCE):
        await talking

    expected = [word for turn in range(3) for word in words_of(turn)]
    assert reader.words == talker.reader.words == expected
    assert set(talker.replies) == {"0", "1", "2"}
    assert all(len({json.dumps(each) for each in replies}) == 1 for replies in talker.replies.values())
