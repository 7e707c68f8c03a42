"""A workflow over HTTP, from the first event to its result: `headrace dev --serve`, and plain HTTP."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent as OfficialEvent

from command_line import commands_in
from headrace.embedded import Valkey
from waiting import until_async

FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()
DATABASE = 4000
"""Of the session's Valkey; other tests count theirs from 1 on."""
PATIENCE = 240.0
"""Seconds: Ray starts, and processes import much, on a machine that others use, too."""


@pytest.fixture(scope="module", params=["inline", pytest.param("ray", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the workflow is answered for: it runs in the gateway's own process, or on Ray, each node an actor."""
    folder = tmp_path_factory.mktemp("desk")
    where, database = (["--inline"], DATABASE) if request.param == "inline" else ([], DATABASE + 10)
    url = f"redis://127.0.0.1:{valkey.port}/{database}"
    with commands_in(folder, FLOW) as start:
        ran = start("dev", "flow.py", *where, "--no-live", "--redis", url, "--serve", "--port", "0")
        ran.says("running, after", PATIENCE)
        found = re.search(r"HTTP\s+(http://\S+)", ran.text)
        assert found, ran.text
        yield found[1]


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=300)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        yield client


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


async def run_of(http: httpx.AsyncClient, key: str) -> Any:
    answer = await http.get(f"/runs/{key}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_B04_started_twice_without_a_key_there_are_two_runs(http: httpx.AsyncClient) -> None:
    first = await http.post("/runs", json={"what": "hello"})
    second = await http.post("/runs", json={"what": "hello"})

    assert [first.status_code, second.status_code] == [200, 200]
    assert first.json()["count"] == second.json()["count"] == 1
    assert first.headers["content-location"] != second.headers["content-location"]
    home = first.headers["content-location"].rpartition("/")[2]
    assert (await run_of(http, home))["status"] == "running"


async def test_events_of_one_run_meet_its_state(http: httpx.AsyncClient, key: str) -> None:
    answers = [await http.post(f"/runs/{key}/events", json={"what": "hello"}) for _ in range(3)]

    assert [answer.json() for answer in answers] == [{"run": key, "count": n, "items": 0} for n in (1, 2, 3)]


async def test_B05_B06_a_run_waits_and_goes_on_by_a_message(http: httpx.AsyncClient, key: str) -> None:
    asked = await http.post(f"/runs/{key}/events", json={"what": "wait"})
    waiting = await run_of(http, key)
    answer = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"}, headers={"Prefer": "wait=20"})

    assert asked.json()["count"] == 1
    assert (waiting["status"], waiting["wait"]["name"]) == ("running", "approval")
    assert (answer.status_code, answer.json()) == (200, {"approved": "ann"})
    ended = await run_of(http, key)
    assert (ended["status"], ended["result"], ended["wait"]) == ("completed", {"by": "ann"}, None)
    result = await http.get(f"/runs/{key}/result")
    assert (result.status_code, result.json()) == (200, {"by": "ann"})


async def test_B25_of_fifty_resumes_of_one_wait_sent_at_once_one_advances_and_the_others_are_told(
    http: httpx.AsyncClient, key: str
) -> None:
    asked = await http.post(f"/runs/{key}/events", json={"what": "wait"})
    wait = (await run_of(http, key))["wait"]["id"]
    headers = {"If-Match": f'"{wait}"', "Prefer": "wait=20"}
    answers = await asyncio.gather(
        *(http.post(f"/runs/{key}/messages/approval", json={"by": "nobody"}, headers=headers) for _ in range(50))
    )
    again = await http.post(f"/runs/{key}/events", json={"what": "wait"})
    standing = await run_of(http, key)

    assert (asked.headers["headrace-wait"], asked.headers["headrace-status"]) == (wait, "waiting")
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 49}
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert (refused.json()["code"], refused.json()["delivered"]) == ("wait_taken", False)
    assert refused.json()["run"].endswith(f"/runs/{key}")
    assert (again.status_code, standing["wait"]["name"]) == (200, "approval"), "the next wait is not skipped"
    assert standing["wait"]["id"] == again.headers["headrace-wait"] != wait


async def test_a_message_that_claims_a_wait_may_be_beaten_by_one_that_does_not(
    http: httpx.AsyncClient, key: str
) -> None:
    asked = await http.post(f"/runs/{key}/events", json={"what": "wait"})
    claim = {"If-Match": f'"{asked.headers["headrace-wait"]}"'}
    sent = [
        http.post(f"/runs/{key}/messages/approval", json={"by": "nobody"}, headers={"Prefer": "wait=20", **headers})
        for headers in [{}, claim] * 5
    ]
    answers = await asyncio.gather(*sent)
    again = await http.post(f"/runs/{key}/events", json={"what": "wait"})

    claimed = Counter(answer.status_code for answer in answers[1::2])
    assert claimed[200] <= 1
    assert claimed[200] + claimed[409] == 5
    assert again.status_code == 200


@pytest.mark.parametrize("text", ["x", "1", '"1.2", "1.3"', "1.2.3", "", "1.2.xyzxyzxy"])
async def test_a_claim_names_one_wait(http: httpx.AsyncClient, key: str, text: str) -> None:
    answer = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"}, headers={"If-Match": text})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_wait")


async def test_M02_a_message_goes_to_a_run_that_is_there(http: httpx.AsyncClient, key: str) -> None:
    unknown = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})
    await http.post(f"/runs/{key}/events", json={"what": "finish"})
    ended = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})
    misnamed = await http.post(f"/runs/{key}/messages/aproval", json={"by": "ann"})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")
    assert (ended.status_code, ended.json()["code"], ended.json()["delivered"]) == (409, "run_ended", False)
    assert (misnamed.status_code, misnamed.json()["code"]) == (404, "unknown_message")
    assert misnamed.json()["messages"] == ["approval"]


async def test_M07_a_message_with_the_same_id_is_delivered_once(http: httpx.AsyncClient, key: str) -> None:
    await http.post(f"/runs/{key}/events", json={"what": "wait"})
    send = {"json": {"by": "nobody"}, "headers": {"Idempotency-Key": "m1", "Prefer": "wait=20"}}
    first = await http.post(f"/runs/{key}/messages/approval", **send)  # type: ignore[arg-type]
    again = await http.post(f"/runs/{key}/messages/approval", **send)  # type: ignore[arg-type]

    assert first.json() == again.json() == {"approved": "nobody"}
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_M10_a_message_may_come_before_the_run_waits_or_has_even_begun(http: httpx.AsyncClient, key: str) -> None:
    asynchronous = {"Prefer": "respond-async"}
    begun, sent = await asyncio.gather(
        http.post(f"/runs/{key}/events", json={"what": "wait"}, headers=asynchronous),
        http.post(f"/runs/{secrets.token_hex(4)}/events", json={"what": "wait"}, headers=asynchronous),
    )
    early = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})

    assert (begun.status_code, sent.status_code, early.status_code) == (202, 202, 202)

    async def is_completed() -> bool:
        return (await http.get(f"/runs/{key}/result")).status_code == 200

    await until_async(is_completed, "the run has gone on by the message")


async def test_B28_a_result_that_takes_longer_is_found_at_the_run(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post(f"/runs/{key}/events", json={"what": "quiet"}, headers={"Prefer": "wait=0"})
    links = answer.json()["links"]

    assert answer.status_code == 202
    assert answer.headers["location"].endswith(f"/runs/{key}")
    assert answer.json()["key"] == key
    assert set(links) == {"self", "result", "messages", "values", "stream", "terminate"}
    base = http.base_url.copy_with(raw_path=links["result"].encode())

    async def is_running() -> bool:
        return (await http.get(base)).status_code == 202

    await until_async(is_running, "the run is at the address that was given")
    await http.post(f"/runs/{key}/events", json={"what": "finish"})
    assert (await http.get(base)).json() == {"count": 2}


async def test_B24_a_key_whose_run_is_running_is_not_begun_again(http: httpx.AsyncClient, key: str) -> None:
    first = await http.post("/runs", params={"key": key}, json={"what": "hello"})
    second = await http.post("/runs", params={"key": key}, json={"what": "finish"})

    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (409, "run_exists")
    assert second.headers["location"] == second.json()["run"] == first.headers["content-location"]
    assert (await run_of(http, key))["status"] == "running", "the one that runs is untouched"


async def test_B24_of_many_that_begin_a_key_at_the_same_time_one_does(http: httpx.AsyncClient, key: str) -> None:
    start = {"params": {"key": key}, "json": {"what": "hello"}}
    answers = await asyncio.gather(*(http.post("/runs", **start) for _ in range(20)))  # type: ignore[arg-type]

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}


async def test_a_key_whose_run_has_ended_begins_another_run(http: httpx.AsyncClient, key: str) -> None:
    await http.post("/runs", params={"key": key}, json={"what": "finish"})
    first = await run_of(http, key)
    again = await http.post("/runs", params={"key": key}, json={"what": "hello"})

    assert again.json()["count"] == 1
    assert (await run_of(http, key))["number"] > first["number"]


async def test_B20_two_hundred_calls_with_one_idempotency_key_are_one_run(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    calls = (http.post("/runs", json={"what": "hello"}, headers=headers) for _ in range(200))
    answers = await asyncio.gather(*calls)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["count"] == 1, "one side effect"
    assert len({answer.headers["content-location"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


async def test_B21_an_idempotency_key_is_for_one_body(http: httpx.AsyncClient, key: str) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first = await http.post("/runs", json={"what": "hello"}, headers=headers)
    other = await http.post("/runs", json={"what": "finish"}, headers=headers)
    elsewhere = await http.post(f"/runs/{key}/events", json={"what": "finish"}, headers=headers)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["run"] == first.headers["content-location"]
    assert elsewhere.status_code == 200, "another run, another request"


async def test_an_event_that_is_sent_again_counts_once(http: httpx.AsyncClient, key: str) -> None:
    headers = {"Idempotency-Key": '"e 1"'.replace(" ", "-")}
    first = await http.post(f"/runs/{key}/events", json={"what": "hello"}, headers=headers)
    again = await http.post(f"/runs/{key}/events", json={"what": "hello"}, headers=headers)
    other = await http.post(f"/runs/{key}/events", json={"what": "hello"})

    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json()["count"] == 2


async def test_B27_an_unknown_run_is_404(http: httpx.AsyncClient, key: str) -> None:
    reads = ("", "/result", "/values", "/values/k", "/streams/s")
    asked = [await http.get(f"/runs/{key}{path}", headers={"Prefer": "wait=10"}) for path in reads]
    asked.append(await http.get(f"/runs/{key}/streams/s", headers={"Accept": "text/event-stream"}))
    asked.append(await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"}))
    asked.append(await http.post(f"/runs/{key}/terminate"))

    assert [(answer.status_code, answer.json()["code"]) for answer in asked] == [(404, "unknown_run")] * len(asked)


async def test_B31_a_waiting_run_is_terminated_with_a_reason(http: httpx.AsyncClient, key: str) -> None:
    await http.post(f"/runs/{key}/events", json={"what": "wait"})
    ended = await http.post(f"/runs/{key}/terminate", json={"reason": "cancelled"})
    again = await http.post(f"/runs/{key}/terminate")
    message = await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})
    result = await http.get(f"/runs/{key}/result")

    assert (ended.status_code, ended.json()["status"], ended.json()["reason"]) == (200, "terminated", "cancelled")
    assert ended.json()["wait"] is None
    assert again.status_code == 200
    assert (message.status_code, message.json()["code"]) == (409, "run_ended")
    assert (result.status_code, result.json()["run_status"]) == (409, "terminated")


async def test_a_completed_run_can_not_be_terminated(http: httpx.AsyncClient, key: str) -> None:
    await http.post(f"/runs/{key}/events", json={"what": "finish"})
    answer = await http.post(f"/runs/{key}/terminate")

    assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")


async def test_a_run_is_told_once_it_goes_on(http: httpx.AsyncClient, key: str) -> None:
    await http.post(f"/runs/{key}/events", json={"what": "wait"})
    known = (await http.get(f"/runs/{key}")).headers["etag"]
    unchanged = await http.get(f"/runs/{key}", headers={"If-None-Match": known})
    timed_out = await http.get(f"/runs/{key}", headers={"If-None-Match": known, "Prefer": "wait=1"})
    waits = asyncio.create_task(http.get(f"/runs/{key}", headers={"If-None-Match": known, "Prefer": "wait=30"}))
    await asyncio.sleep(0)
    await http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})
    changed = await waits

    assert (unchanged.status_code, unchanged.headers["etag"], unchanged.content) == (304, known, b"")
    assert timed_out.status_code == 304
    assert (changed.status_code, changed.headers["preference-applied"]) == (200, "wait=30")
    assert changed.headers["etag"] != known


async def test_runs_are_listed_page_by_page(http: httpx.AsyncClient, key: str) -> None:
    for number in range(3):
        await http.post(f"/runs/{key}-{number}/events", json={"what": "finish" if number else "hello"})

    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"key_prefix": f"{key}-", "status": "completed", "limit": "1", "cursor": cursor}
        page = (await http.get("/runs", params=params)).json()
        found += [row["key"] for row in page["runs"]]
        cursor = page["cursor"]

    assert sorted(found) == [f"{key}-1", f"{key}-2"]


async def test_a_dead_letter_is_listed_and_goes_back(http: httpx.AsyncClient, key: str) -> None:
    await http.post(f"/runs/{key}/events", json={"what": "refuse"}, headers={"Prefer": "respond-async"})

    async def mine() -> Any:
        page = (await http.get("/dead-letters", params={"reason": "reject", "node": "take"})).json()
        return [row for row in page["dead_letters"] if row["key"] == key]

    (letter,) = await until_async(mine, "the event is a dead letter")
    assert letter["data"] == {"what": "refuse"}
    assert "no such thing" in letter["error"]
    replayed = await http.post("/dead-letters/replay", json={"letters": [letter["address"]]})
    assert (replayed.status_code, replayed.json()) == (200, {"found": 1, "replayed": 1, "kept": 0, "more": False})

    async def is_back() -> bool:
        return bool(found := await mine()) and found[0]["address"] != letter["address"]

    await until_async(is_back, "it has been refused again")
    again = await http.post("/dead-letters/replay", json={"letters": [letter["address"]]})
    assert again.json()["replayed"] == 0, "each goes once"


@pytest.mark.parametrize(
    "order", [{}, {"letters": [], "all": False}, {"letters": ["orders/9/1-0"]}, {"letters": ["x"]}, {"every": 1}, [1]]
)
async def test_what_is_to_be_replayed_has_to_be_said(http: httpx.AsyncClient, order: Any) -> None:
    answer = await http.post("/dead-letters/replay", json=order)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_data")


async def test_B02_every_field_that_is_wrong_is_listed_and_nothing_created(http: httpx.AsyncClient, key: str) -> None:
    order = {"items": [{"name": "a", "price": "x"}, {"price": 3}]}
    answer = await http.post(f"/runs/{key}/events", json=order)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_data")
    paths = [row["path"] for row in answer.json()["errors"]]
    assert paths == ["$.items[0].price", "$.items[1].name", "$.what"]
    assert (await http.get(f"/runs/{key}")).status_code == 404


async def test_many_events_come_in_as_lines_each_by_itself(http: httpx.AsyncClient) -> None:
    body = b'{"what": "hello"}\n\n{"wha\n{"what": 3}\n{"what": "hello"}\n'
    answer = await http.post("/events", content=body, headers={"Content-Type": "application/x-ndjson"})

    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert [(row["index"], row["code"]) for row in answer.json()["errors"]] == [
        (1, "invalid_json"),
        (2, "invalid_data"),
    ]


async def test_an_array_that_is_sent_again_counts_once(http: httpx.AsyncClient) -> None:
    before = len((await http.get("/runs", params={"limit": 1000})).json()["runs"])
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    events = [{"what": "hello"}] * 30
    first = await http.post("/events", json=events, headers=headers)
    again = await http.post("/events", json=events, headers=headers)
    other = await http.post("/events", json=[{"what": "quiet"}], headers=headers)

    assert first.json() == again.json() == {"accepted": 30, "errors": []}
    assert again.headers["idempotent-replayed"] == "true"
    assert [row["code"] for row in other.json()["errors"]] == ["idempotency_key_reused"]

    async def count() -> int:
        return len((await http.get("/runs", params={"limit": 1000})).json()["runs"]) - before

    await until_async(lambda: _is(count, 30), "each has begun a run, once")


async def _is(count: Any, wanted: int) -> bool:
    return bool(await count() == wanted)


STRUCTURED = "application/cloudevents+json"


def official(key: str, id_: str, what: str = "hello") -> OfficialEvent:
    """As the SDK makes it; the source has what can't stand in a header as it is."""
    attributes = {"specversion": "1.0", "id": id_, "source": f"/{key}/caf\u00e9 1%", "type": "order", "subject": key}
    return OfficialEvent(attributes, {"what": what})


async def test_cloudevents_of_the_official_sdk_come_in_every_mode_and_once(http: httpx.AsyncClient, key: str) -> None:
    structured = to_structured_event(official(key, "1"))
    again, binary = [to_binary_event(official(key, *row)) for row in (("1",), ("3", "finish"))]
    batch = b",".join([to_structured_event(official(key, id_)).body for id_ in "21"] + [b'{"specversion": "1.0"}'])
    sent = [
        await http.post("/events", content=structured.body, headers=structured.headers),
        await http.post(
            "/events", content=b"[" + batch + b"]", headers={"Content-Type": "application/cloudevents-batch+json"}
        ),
        await http.post("/events", content=again.body, headers=again.headers),
        await http.post("/events", content=binary.body, headers=binary.headers),
    ]
    refused = await http.post("/events", json={"specversion": "1.0"}, headers={"Content-Type": STRUCTURED})

    assert [answer.json()["accepted"] for answer in sent] == [1, 2, 1, 1]
    assert [row["code"] for row in sent[1].json()["errors"]] == ["invalid_cloudevent"]
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cloudevent")

    async def result() -> Any:
        answer = await http.get(f"/runs/{key}/result")
        return answer.json() if answer.status_code == 200 else None

    assert await until_async(result, "the run has ended") == {"count": 3}, (
        "the second and the third with id 1 were none"
    )


async def test_all_that_is_counted_is_at_one_address(http: httpx.AsyncClient) -> None:
    await http.get("/runs")
    text = (await http.get(http.base_url.copy_with(raw_path=b"/metrics"))).text

    route = 'method="GET",process="gateway/'
    assert any("headrace_gateway_requests_total{" in line and route in line for line in text.splitlines()), text
    assert "/v1/workflows/{workflow}/runs" in text
