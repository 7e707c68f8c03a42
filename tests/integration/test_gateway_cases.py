"""B, E, M, S over HTTP: a workflow whose nodes and worker are Ray actors, on Valkey, with a gateway at a real port."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from http_cluster import HttpCluster, http_cluster
from http_rig import events_in, values_in
from waiting import until_async

DATABASE = 4020
"""Of the session's Valkey; other tests count theirs from 1 on."""
LATER = {"Prefer": "respond-async"}
WAIT = {"Prefer": "wait=30"}
SSE = {"Accept": "text/event-stream"}
BURST = 10_000

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(ray_cluster: LocalRay, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpCluster]:
    """One worker, its nodes, and a gateway; all tests ask the same one, each about runs of its own."""
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    with http_cluster(tmp_path_factory.mktemp("cases"), url, "cases") as site:
        yield site


@pytest.fixture
async def http(site: HttpCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as http:
        yield http


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


async def told(http: httpx.AsyncClient, key: str, do: str, headers: dict[str, str] = LATER, **more: Any) -> Any:
    """The answer to an order."""
    answer = await http.post(f"/runs/{key}/events", json={"do": do, **more}, headers=headers)
    assert answer.is_success, answer.text
    return answer


async def say(
    http: httpx.AsyncClient, key: str, name: str, headers: dict[str, str] | None = None, **note: Any
) -> httpx.Response:
    """The answer to a message."""
    return await http.post(f"/runs/{key}/messages/{name}", json=note, headers=headers or {})


async def ended(http: httpx.AsyncClient, key: str) -> Any:
    """The run, once it has ended."""

    async def look() -> Any:
        answer = await http.get(f"/runs/{key}")
        found = answer.json() if answer.is_success else {"status": "accepted"}
        return found if found["status"] not in ("accepted", "running") else None

    return await until_async(look, f"{key} has ended", within=60)


async def stands_at(http: httpx.AsyncClient, key: str, wait: str) -> Any:
    """The wait, once the run stands there."""

    async def look() -> Any:
        answer = await http.get(f"/runs/{key}")
        found = answer.json()["wait"] if answer.is_success else None
        return found if found and found["name"] == wait else None

    return await until_async(look, f"{key} stands at {wait}")


async def letters_of(http: httpx.AsyncClient, key: str) -> list[Any]:
    """Dead letters of a run."""
    rows = (await http.get("/dead-letters", params={"limit": 1000})).json()["dead_letters"]
    return [row for row in rows if row["key"] == key]


async def followed(http: httpx.AsyncClient, key: str, stream: str = "s") -> bytes:
    """All that a follower gets, until the run is over."""
    answer = await http.get(f"/runs/{key}/streams/{stream}", headers=SSE)
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_B16_a_node_fails_for_good_and_the_waiting_caller_is_told_at_once(
    http: httpx.AsyncClient, key: str
) -> None:
    answer = await http.post(f"/runs/{key}/events", json={"do": "fail"}, headers=WAIT)

    problem = answer.json()
    assert answer.status_code >= 400
    assert "preference-applied" not in answer.headers or answer.headers["preference-applied"] == "wait=30"
    assert (problem["node"], problem["reason"]) == ("begin", "error")
    assert "there is no such order" in problem["detail"]
    (letter,) = await letters_of(http, key)
    assert (letter["node"], letter["reason"], letter["data"]["do"]) == ("begin", "error", "fail")
    assert (await told(http, key, "count", WAIT)).json() == {"orders": 1}, "the one that failed has changed nothing"


async def test_B31_a_waiting_run_that_is_ended_leaves_no_timer_behind(
    site: HttpCluster, http: httpx.AsyncClient, key: str
) -> None:
    async def timers() -> list[str]:
        async with site.store() as store:
            soon = await store.time() + 3_600_000
            return [name for name, _ in (await store.timers(site.home(key), soon, 1000))[0] if key in name]

    await told(http, key, "patient")
    await stands_at(http, key, "patient")
    before = await timers()
    answer = await http.post(f"/runs/{key}/terminate", json={"reason": "cancelled"})
    message = await say(http, key, "a", text="late")

    assert len(before) == 2, "of its node, and of its wait"
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "terminated", "cancelled")
    assert (message.status_code, message.json()["code"], message.json()["delivered"]) == (409, "run_ended", False)
    assert await timers() == []


async def test_E01_E02_values_are_there_when_their_run_has_completed_and_null_is_one(
    http: httpx.AsyncClient, key: str
) -> None:
    done = await told(http, key, "values", WAIT)
    k1, k2 = [await http.get(f"/runs/{key}/values/{name}") for name in ("k1", "k2")]
    unset = await http.get(f"/runs/{key}/values/k3", headers=WAIT)

    assert done.json() == "done"
    assert [(answer.status_code, answer.content) for answer in (k1, k2)] == [(200, b'{"x":1}'), (200, b"null")]
    assert (unset.status_code, unset.json()["code"]) == (404, "value_never_set")


async def test_E03_what_is_not_set_yet_is_waited_for_and_then_nothing(http: httpx.AsyncClient, key: str) -> None:
    unknown = await http.get(f"/runs/{key}/values/k", headers=WAIT)
    await told(http, key, "count", WAIT)
    nothing = await http.get(f"/runs/{key}/values/k", headers={"Prefer": "wait=1"})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")
    assert (nothing.status_code, nothing.content, nothing.headers["preference-applied"]) == (204, b"", "wait=1")


async def test_E06_E11_all_who_wait_for_a_value_get_it_when_it_comes(http: httpx.AsyncClient, key: str) -> None:
    await told(http, key, "count", WAIT)
    waiting = [asyncio.create_task(http.get(f"/runs/{key}/values/k", headers=WAIT)) for _ in range(2)]
    await told(http, key, "later")

    assert [(answer.status_code, answer.json()) for answer in await asyncio.gather(*waiting)] == [(200, "late")] * 2


async def test_E08_a_value_that_is_set_again_is_the_latest_and_the_next_is_waited_for(
    http: httpx.AsyncClient, key: str
) -> None:
    for number in (1, 2):
        await told(http, key, "set", WAIT, name="k", words=[number])
    latest = await http.get(f"/runs/{key}/values/k")
    known = {"If-None-Match": latest.headers["etag"], **WAIT}
    following = asyncio.create_task(http.get(f"/runs/{key}/values/k", headers=known))
    await asyncio.sleep(0)
    await told(http, key, "set", WAIT, name="k", words=[3])
    third = await following

    assert (latest.json(), latest.headers["headrace-version"]) == ([2], "2")
    assert (third.status_code, third.json(), third.headers["headrace-version"]) == (200, [3], "3")


async def test_M01_messages_go_to_waits_by_their_names_each_in_order(http: httpx.AsyncClient, key: str) -> None:
    await told(http, key, "read", WAIT | LATER)
    for name, text in (("a", "m1"), ("t", "m2"), ("a", "m3")):
        assert (await say(http, key, name, text=text)).status_code == 202

    assert (await ended(http, key))["result"] == ["m2", "m1", "m3"]


async def test_M02_a_message_goes_to_a_run_that_is_there_and_has_not_ended(http: httpx.AsyncClient, key: str) -> None:
    unknown = await say(http, key, "a", text="m")
    await told(http, key, "end", WAIT)
    late = await say(http, key, "a", text="m")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")
    assert (late.status_code, late.json()["code"], late.json()["delivered"]) == (409, "run_ended", False)


async def test_M04_a_wait_is_over_in_time(http: httpx.AsyncClient, key: str) -> None:
    await told(http, key, "hasty")

    run = await ended(http, key)
    assert (run["status"], run["result"]) == ("completed", {"waited": 1.0})


async def test_M07_M10_a_message_that_comes_early_and_twice_is_kept_and_delivered_once(
    http: httpx.AsyncClient, key: str
) -> None:
    await told(http, key, "count", WAIT)
    for text, id_ in (("m1", "1"), ("m1", "1"), ("m3", "3")):
        assert (await say(http, key, "a", {"Idempotency-Key": id_}, text=text)).status_code == 202
    await told(http, key, "read")
    await say(http, key, "t", text="m2")

    assert (await ended(http, key))["result"] == ["m2", "m1", "m3"]


@pytest.mark.timeout(600)
async def test_M12_ten_thousand_messages_of_one_sender_in_a_burst_keep_their_order(
    site: HttpCluster, http: httpx.AsyncClient, key: str
) -> None:
    await told(http, key, "burst", WAIT | LATER)
    await stands_at(http, key, "burst")

    statuses = await burst(site, key)

    assert set(statuses) == {202}
    assert len(statuses) == BURST
    assert (await ended(http, key))["result"] == {"count": BURST, "disorder": 0}


async def burst(site: HttpCluster, key: str) -> list[int]:
    """Statuses of the answers to messages that are all sent, over one connection, before the first is answered."""
    address = httpx.URL(site.address)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    path = f"/v1/workflows/{site.workflow}/runs/{key}/messages/burst"

    async def send() -> None:
        for number in range(BURST):
            body = json.dumps({"number": number, "text": "last" if number == BURST - 1 else ""})
            head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(300):
            return [await _status(reader) for _ in range(BURST)]
    finally:
        sending.cancel()
        writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    (size,) = (int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length"))
    await reader.readexactly(size)
    return int(head.split()[1])


async def test_M14_a_message_that_can_not_be_decoded_is_a_dead_letter_and_the_next_is_delivered(
    http: httpx.AsyncClient, key: str
) -> None:
    await told(http, key, "listen", WAIT | LATER)
    await stands_at(http, key, "listen")
    by_schema = await say(http, key, "a", text=1)
    broken = await say(http, key, "a", WAIT, text="broken", number=-1)
    right = await say(http, key, "a", WAIT, text="right")

    assert (by_schema.status_code, by_schema.json()["code"]) == (422, "invalid_data")
    assert (broken.status_code >= 400, broken.json()["reason"]) == (True, "decode")
    assert (right.status_code, right.json()) == (200, ["right"])
    (letter,) = await letters_of(http, key)
    assert (letter["reason"], letter["source"], letter["data"]["text"]) == ("decode", "a", "broken")
    assert "below 0" in letter["error"]


async def test_M16_a_waiting_run_ends_when_it_is_told_to(http: httpx.AsyncClient, key: str) -> None:
    await told(http, key, "listen")
    await stands_at(http, key, "listen")
    answer = await http.post(f"/runs/{key}/terminate", json={"reason": "enough"}, headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "terminated", "enough")


async def test_S01_S02_S08_every_reader_has_the_same_values_from_any_offset(http: httpx.AsyncClient, key: str) -> None:
    mixed = [1, "two", None, {"r": "0-0"}, [], True, "end", "event: end\n\n", 1.5, {"event": "reset"}]
    await told(http, key, "count", WAIT)
    readers = [asyncio.create_task(followed(http, key)) for _ in range(2)]
    await told(http, key, "write", WAIT, words=mixed)
    await told(http, key, "end", WAIT)
    pages = [
        (await http.get(f"/runs/{key}/streams/s", params={"offset": offset})).json()["values"]
        for offset in (0, 2, len(mixed), 100)
    ]

    for body in (*await asyncio.gather(*readers), await followed(http, key)):
        assert values_in(events_in(body)) == mixed
        assert [event.kind for event in events_in(body)].count("end") == 1
    assert pages == [mixed, mixed[2:], [], []]


async def test_S03_S06_streams_of_a_run_are_independent_and_end_with_it(http: httpx.AsyncClient, key: str) -> None:
    await told(http, key, "count", WAIT)
    silent = asyncio.create_task(followed(http, key, "never"))
    for number in range(3):
        await told(http, key, "write", WAIT, words=[number], name="s")
        await told(http, key, "write", WAIT, words=[-number], name="other")
    readers = [asyncio.create_task(followed(http, key, name)) for name in ("s", "other")]
    await told(http, key, "end", WAIT)

    assert [values_in(events_in(body)) for body in await asyncio.gather(*readers)] == [[0, 1, 2], [0, -1, -2]]
    assert [(event.kind, event.data) for event in events_in(await silent)] == [("end", {"status": "completed"})]


async def test_S09_nothing_is_written_past_the_end_and_the_next_event_writes_on(
    http: httpx.AsyncClient, key: str
) -> None:
    await told(http, key, "write", WAIT, words=["first"])
    past = await http.post(
        f"/runs/{key}/events", json={"do": "write", "words": ["a", "close", "past"]}, headers=WAIT
    )  # fmt: skip
    await told(http, key, "write", WAIT, words=["last"])
    await told(http, key, "end", WAIT)

    assert (past.status_code >= 400, past.json()["node"], past.json()["reason"]) == (True, "write", "stream")
    body = await followed(http, key)
    assert values_in(events_in(body)) == ["first", "last"]
    assert b"past" not in body


async def test_S12_S25_readers_have_values_at_once_and_of_a_node_that_is_tried_again_those_of_its_last_attempt(
    http: httpx.AsyncClient, key: str, tmp_path: Path
) -> None:
    body, failing = b"", tmp_path / "failing"
    await told(http, key, "write", WAIT, words=["before"])
    words = ["a", "b", "c", "again"]
    writing = asyncio.create_task(told(http, key, "write", WAIT, words=words, until=str(failing)))
    async with http.stream("GET", f"/runs/{key}/streams/s", headers=SSE) as reader:
        async for part in reader.aiter_bytes():
            body += part
            if values_in(events_in(body)) == ["before", "a", "b", "c"] and not failing.exists():
                failing.touch()
                answer = await writing
                await told(http, key, "end", WAIT)

    events = events_in(body)
    assert answer.json() == {"attempt": 2}
    assert values_in(events) == ["before", "a", "b", "c", "again"]
    (reset,) = [event for event in events if event.kind == "reset"]
    assert events.index(reset) == 4, "told where to begin again, behind three values of the attempt that failed"
