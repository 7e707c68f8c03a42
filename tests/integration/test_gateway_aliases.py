"""Short paths: each is another name of an address, and answers the same."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from command_line import commands_in
from headrace.embedded import Valkey
from headrace.gateway.settings import GatewaySettings
from http_rig import Rig, events_in, http_rig, values_in
from waiting import until_async

FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()
DATABASE = 4001
"""Of the session's Valkey; other tests count theirs from 1 on."""


@pytest.fixture(scope="module")
def address(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway of a workflow that runs in a process of its own."""
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    with commands_in(tmp_path_factory.mktemp("desk"), FLOW) as start:
        ran = start("dev", "flow.py", "--inline", "--no-live", "--redis", url, "--serve", "--port", "0")
        ran.says("running, after")
        found = re.search(r"HTTP\s+(http://[^/\s]+)", ran.text)
        assert found, ran.text
        yield found[1]


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture
def key() -> str:
    """A run of this test's own."""
    return f"r{secrets.token_hex(4)}"


def start(key: str | None = None, what: str = "wait") -> dict[str, object]:
    return {"workflow": "orders", "data": {"what": what}, **({} if key is None else {"key": key})}


async def test_a_run_is_started_resumed_and_has_ended(http: httpx.AsyncClient) -> None:
    started = await http.post("/workflow/start", json=start())
    run = started.headers["headrace-run"]
    wait = started.headers["headrace-wait"]
    order = {"message": "approval", "data": {"by": "ann"}, "wait": wait}
    resumed = await http.post(f"/workflow/resume/{run}", json=order)
    again = await http.post(f"/workflow/resume/{run}", json=order)

    assert (started.status_code, started.json()["count"]) == (200, 1)
    assert run == "orders:" + started.headers["content-location"].rpartition("/")[2]
    assert (resumed.status_code, resumed.json()) == (200, {"approved": "ann"})
    assert (again.status_code, again.json()["code"]) == (409, "run_ended")


async def test_a_resume_of_a_wait_that_is_over_is_refused(http: httpx.AsyncClient, key: str) -> None:
    started = await http.post("/workflow/start", json=start(key))
    order = {"message": "approval", "data": {"by": "nobody"}, "wait": started.headers["headrace-wait"]}
    answers = [await http.post(f"/workflow/resume/orders:{key}", json=order) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["code"] == "wait_taken"


async def test_a_run_is_terminated_with_a_reason(http: httpx.AsyncClient, key: str) -> None:
    await http.post("/workflow/start", json=start(key))
    ended = await http.post(f"/workflow/terminate/orders:{key}", json={"reason": "cancelled"})

    assert (ended.status_code, ended.json()["status"], ended.json()["reason"]) == (200, "terminated", "cancelled")
    assert ended.headers["headrace-run"] == f"orders:{key}"


async def test_a_message_is_sent_once_and_not_waited_for(http: httpx.AsyncClient, key: str) -> None:
    await http.post("/workflow/start", json=start(key))
    order = {"id": f"orders:{key}", "message": "approval", "data": {"by": "ann"}}
    sent = [await http.post("/send-message", json=order, headers={"Idempotency-Key": "m1"}) for _ in range(2)]

    assert sent[0].status_code == 202
    assert sent[1].headers["idempotent-replayed"] == "true"
    assert sent[0].headers["headrace-run"] == f"orders:{key}"


async def test_what_the_address_meant_refuses_is_refused_the_same(http: httpx.AsyncClient, key: str) -> None:
    await http.post("/workflow/start", json=start(key))
    running = await http.post("/workflow/start", json=start(key))
    wrong = await http.post("/workflow/start", json={"workflow": "orders", "data": {"what": 3}})
    unknown = await http.post("/workflow/start", json={"workflow": "none", "data": {}})
    nobody = await http.post("/workflow/terminate/orders:nobody")

    assert (running.status_code, running.json()["code"]) == (409, "run_exists")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "$.what")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_workflow")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_run")


@pytest.mark.parametrize(
    ("path", "order", "status", "code"),
    [
        ("/workflow/start", {"data": {}}, 422, "invalid_data"),
        ("/workflow/start", {"workflow": "orders", "data": {}, "more": 1}, 422, "invalid_data"),
        ("/workflow/start", {"workflow": "orders/runs/a/terminate", "data": {}}, 404, "unknown_workflow"),
        ("/workflow/start", [], 422, "invalid_data"),
        ("/workflow/resume/orders", {"message": "approval", "data": {}}, 400, "invalid_key"),
        ("/workflow/resume/orders:a", {"message": "a/b", "data": {}}, 404, "unknown_message"),
        ("/workflow/resume/orders:a", {"message": "approval", "data": {}, "wait": "é\n"}, 400, "invalid_wait"),
        ("/send-message", {"id": "orders:a/../b", "message": "approval", "data": {}}, 400, "invalid_key"),
    ],
)
async def test_an_order_that_can_not_be_meant_is_refused(
    http: httpx.AsyncClient, path: str, order: object, status: int, code: str
) -> None:
    answer = await http.post(path, json=order)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_topics_are_described_at_the_gateway(http: httpx.AsyncClient) -> None:
    every, one, none = [
        await http.get("/asyncapi.json", params=rows) for rows in ({}, {"workflow": "orders"}, {"workflow": "x"})
    ]

    assert (every.json()["asyncapi"], one.json()["info"]["title"]) == ("3.0.0", "Headrace: orders")
    assert (none.status_code, none.json()["code"]) == (404, "unknown_workflow")


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    """A gateway that lets nobody wait who does not ask for it."""
    async with http_rig(redis_url, GatewaySettings(port=0, wait_seconds=0.0, longest_wait_seconds=1.0)) as rig:
        rig.http.base_url = httpx.URL(str(rig.http.base_url).partition("/v1/")[0])
        yield rig


async def test_all_values_of_a_run_and_one_of_them(rig: Rig) -> None:
    await rig.begin(progress=(2, {"done": 3}), all=(1, 0))
    every = await rig.http.get("/workflow-events/talk:a/all")
    one = await rig.http.get("/workflow-events/talk:a/progress")
    nobody = await rig.http.get("/workflow-events/talk:nobody/progress")

    assert every.json()["values"] == {"progress": {"done": 3}, "all": 0}
    assert (one.json(), one.headers["etag"], one.headers["headrace-run"]) == ({"done": 3}, '"1.2"', "talk:a")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_run")
    assert nobody.headers["headrace-run"] == "talk:nobody"


async def test_a_value_that_is_not_set_is_waited_for_though_nobody_says_so(rig: Rig) -> None:
    await rig.begin()
    long = await rig.http.get("/v1/workflows/talk/runs/a/values/progress")
    short = await rig.http.get("/workflow-events/talk:a/progress", headers={"Prefer": "wait=0"})
    waiter = asyncio.create_task(rig.http.get("/workflow-events/talk:a/progress"))
    await until_async(lambda: rig.gateway.values.waiting == 1, "one waits")
    await rig.begin(progress=(1, "done"))

    assert (long.status_code, short.status_code) == (204, 204)
    assert (await waiter).json() == "done"


async def test_a_stream_is_followed_and_its_values_are_read(rig: Rig) -> None:
    await rig.begin()
    place = [await rig.write("a", "b", stream=name, event=name) for name in ("tokens", "default")]
    await rig.commit(sealed=place)
    await rig.end()
    followed = await rig.http.get("/workflow-stream/talk:a", params={"key": "tokens"})
    unnamed = await rig.http.get("/workflow-stream/talk:a")
    on = await rig.http.get(
        "/workflow-stream/talk:a", headers={"Last-Event-ID": events_in(unnamed.content)[0].id}
    )  # fmt: skip
    read = await rig.http.get(
        "/workflow-stream/talk:a", params={"key": "tokens", "offset": 1}, headers={"Accept": "application/json"}
    )

    assert followed.headers["content-type"].startswith("text/event-stream")
    assert values_in(events_in(followed.content)) == ["a", "b"]
    assert [event.kind for event in events_in(unnamed.content)] == ["value", "value", "end"]
    assert values_in(events_in(on.content)) == ["b"]
    assert (read.json()["values"], read.json()["ended"]) == (["b"], "completed")
    assert {answer.headers["headrace-run"] for answer in (followed, unnamed, on, read)} == {"talk:a"}


@pytest.mark.parametrize(
    "path",
    [
        "/workflow-events/talk/progress", "/workflow-events/:a/all", "/workflow-stream/talk",
        "/workflow-events/\x8dtalk\u00fc:\U000b274e/all", "/workflow-events/talk:\U000b274e/progress",
    ],
)  # fmt: skip
async def test_what_names_no_run_is_told_so(rig: Rig, path: str) -> None:
    answer = await rig.http.get(path)

    assert (answer.status_code, answer.json()["code"]) in ((400, "invalid_key"), (404, "unknown_workflow"))
