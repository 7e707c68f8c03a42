"""Nodes of a waiting run, executed over HTTP: by actors on a Ray cluster, and by one process."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from command_line import Start, commands_in
from headrace.client import AsyncClient, Client, GatewayProblem, UnknownRun
from headrace.embedded import Valkey

FLOW = (Path(__file__).parents[1] / "support" / "flows" / "parts.py").read_text()
DATABASE = 4010
"""Of the session's Valkey; other tests count theirs from 1 on."""
FORMS: Final[dict[str, tuple[str, ...]]] = {"inline": ("--inline",), "cluster": ()}
LAMP: Final = {"what": "lamp", "grams": 100}


@pytest.fixture(scope="module", params=list(FORMS))
def running(
    request: pytest.FixtureRequest, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Start]]:
    """Where the workflow is answered for, its store, and what starts commands."""
    form: str = request.param
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE + list(FORMS).index(form)}"
    with commands_in(tmp_path_factory.mktemp("parts"), FLOW) as start:
        arguments = ("--no-live", "--redis", url, "--serve", "--port", "0")
        ran = start("dev", "flow.py", *FORMS[form], *arguments)
        ran.says("running, after", within=180)
        found = re.search(r"HTTP\s+(http://[^/\s]+)", ran.text)
        assert found, ran.text
        yield found[1], url, start


@pytest.fixture
def address(running: tuple[str, str, Start]) -> str:
    """Of the gateway."""
    return running[0]


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{address}/v1/workflows/parts", timeout=60) as client:
        yield client


@pytest.fixture
async def key(http: httpx.AsyncClient) -> str:
    """A run of this test's own, which waits for its approval."""
    key = f"r{secrets.token_hex(4)}"
    begun = await http.post(f"/runs/{key}/events", json=LAMP, headers={"Prefer": "wait=30"})
    assert (begun.status_code, begun.json()) == (200, {"count": 1}), begun.text
    assert begun.headers["headrace-status"] == "waiting"
    return key


async def seen(http: httpx.AsyncClient, key: str) -> Any:
    """All that callers see of a run."""
    paths = ("", "/values", "/streams/notes")
    return [(await http.get(f"/runs/{key}{path}")).json() for path in paths]


async def test_B32_a_node_is_executed_three_times_on_a_waiting_run_which_then_goes_on(
    http: httpx.AsyncClient, key: str
) -> None:
    home = f"/v1/workflows/parts/runs/{key}"
    before = await seen(http, key)
    three = [await http.post(f"/runs/{key}/nodes/prepare", json=LAMP) for _ in range(3)]
    failed = await http.post(f"/runs/{key}/nodes/prepare", json={**LAMP, "what": "boom"})
    unknown = await http.post(f"/runs/{key}/nodes/nobody", json=LAMP)
    after = await seen(http, key)
    gone_on = await http.post(
        f"/runs/{key}/messages/approval", json={"by": "ann"}, headers={"Prefer": "wait=30"}
    )  # fmt: skip
    late = await http.post(f"/runs/{key}/nodes/prepare", json=LAMP)

    assert [answer.status_code for answer in three] == [200, 200, 200]
    expected = {
        "node": "prepare", "returned": "data", "type": "Order", "data": {"what": "lamp", "grams": 200},
        "reply": {"count": 2},
    }  # fmt: skip
    assert [answer.json() for answer in three] == [expected] * 3
    assert {answer.headers["content-location"] for answer in three} == {home}
    assert failed.status_code == 422
    problem = failed.json()
    assert (problem["code"], problem["node"], problem["reason"], problem["attempts"]) == (
        "failed", "prepare", "error", 1,
    )  # fmt: skip
    assert "it does not hold" in problem["detail"]
    assert (unknown.status_code, unknown.json()["code"], unknown.json()["run"]) == (404, "unknown_node", home)
    assert unknown.json()["nodes"] == ["decide", "judge", "prepare", "weigh"]
    assert after == before
    assert before[0]["wait"]["name"] == "approval"
    assert (gone_on.status_code, gone_on.json()) == (200, {"by": "ann"})
    assert (late.status_code, late.json()["code"], late.json()["run"]) == (409, "run_ended", home)


async def test_what_is_committed_is_kept_and_goes_nowhere(http: httpx.AsyncClient, key: str) -> None:
    done = await http.post(f"/runs/{key}/nodes/prepare", json={**LAMP, "what": "vase"}, params={"commit": "true"})
    run, values, notes = await seen(http, key)
    then = await http.post(f"/runs/{key}/nodes/prepare", json=LAMP)

    assert (done.status_code, done.json()["committed"], done.json()["reply"]) == (200, True, {"count": 2})
    assert (run["status"], run["wait"]["name"]) == ("running", "approval")
    assert (values["values"], values["versions"]) == ({"prepared": 2}, {"prepared": 2})
    assert notes["values"] == ["lamp", "vase"]
    assert then.json()["reply"] == {"count": 3}


async def test_nodes_of_each_kind_are_executed_and_those_that_go_with_the_graph_are_refused(
    http: httpx.AsyncClient, key: str
) -> None:
    weighed = await http.post(f"/runs/{key}/nodes/weigh", json=LAMP)
    judged = [await http.post(f"/runs/{key}/nodes/judge", json={**LAMP, "grams": grams}) for grams in (10, 60)]
    decided = await http.post(f"/runs/{key}/nodes/decide", json={"by": "ann"})
    refused = [await http.post(f"/runs/{key}/nodes/{name}", json=LAMP) for name in ("approval", "spell")]

    assert weighed.json()["data"] == {"what": "lamp", "grams": 110}
    assert [answer.json() for answer in judged] == [
        {"node": "judge", "returned": "action", "action": name} for name in ("DROP", "ASK")
    ]
    assert decided.json() == {"node": "decide", "returned": "complete", "data": {"by": "ann"}}
    assert (await http.get(f"/runs/{key}")).json()["status"] == "running"
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(422, "not_executable")}


async def test_data_are_checked_by_the_nodes_schema_and_nothing_unknown_is_executed(
    http: httpx.AsyncClient, key: str
) -> None:
    wrong = await http.post(f"/runs/{key}/nodes/prepare", json={"what": 1})
    nobody = await http.post("/runs/nobody/nodes/prepare", json=LAMP)

    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_data")
    assert [row["path"] for row in wrong.json()["errors"]] == ["$.grams", "$.what"]
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_run")
    assert (await http.get("/runs/nobody")).status_code == 404


async def test_sent_again_with_its_key_it_is_executed_once(http: httpx.AsyncClient, key: str) -> None:
    path, params = f"/runs/{key}/nodes/prepare", {"commit": "true"}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first = await http.post(path, json=LAMP, params=params, headers={**headers, "Prefer": "respond-async"})
    second = await http.post(path, json=LAMP, params=params, headers={**headers, "Prefer": "wait=30"})
    other = await http.post(path, json={**LAMP, "grams": 1}, params=params, headers=headers)
    tried = await http.post(path, json=LAMP, headers=headers)

    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert (second.status_code, second.headers["idempotent-replayed"]) == (200, "true")
    assert second.json()["reply"] == {"count": 2}
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert tried.json()["reply"] == {"count": 3}, "another request: nothing of it is committed"


async def test_by_its_short_path_it_is_the_same(address: str, http: httpx.AsyncClient, key: str) -> None:
    order = {"id": f"parts:{key}", "node": "judge", "data": LAMP}
    async with httpx.AsyncClient(base_url=address, timeout=60) as short:
        done = await short.post("/workflow/execute-node", json=order)
        kept = await short.post("/workflow/execute-node", json={**order, "node": "prepare", "commit": True})
        unknown = await short.post("/workflow/execute-node", json={**order, "node": "nobody"})

    assert (done.status_code, done.json()["action"]) == (200, "ASK")
    assert done.headers["headrace-run"] == f"parts:{key}"
    assert (kept.json()["committed"], (await seen(http, key))[1]["values"]) == (True, {"prepared": 2})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_node")


async def test_the_clients_execute_nodes_and_tell_what_came_of_it(address: str, key: str) -> None:
    async with AsyncClient(address) as client:
        run = client.runs("parts").get(key)
        said = await run.execute("prepare", LAMP)
        with pytest.raises(GatewayProblem, match="it does not hold") as failed:
            await run.execute("prepare", {**LAMP, "what": "boom"})
        with pytest.raises(UnknownRun):
            await client.runs("parts").get("nobody").execute("prepare", LAMP)
    with Client(address) as client:
        kept = client.runs("parts").get(key).execute("judge", LAMP, commit=True)

    assert (said.node, said.returned, said.data["grams"], said.reply) == ("prepare", "data", 200, {"count": 2})
    assert failed.value.document["node"] == "prepare"
    assert (kept.action, kept.committed) == ("ASK", True)


async def test_the_command_prints_what_a_node_returned_or_why_it_has_not(
    running: tuple[str, str, Start], http: httpx.AsyncClient, key: str
) -> None:
    _, url, start = running

    def typed(run: str, node: str, data: str, *more: str) -> tuple[int, str]:
        ran = start("runs", "execute", run, node, data, *more, "--redis", url)
        return ran.ends(), ran.text

    order = msgspec.json.encode(LAMP).decode()
    done, said = typed(f"parts/{key}", "judge", order)
    kept, _ = typed(f"parts/{key}", "prepare", order, "--commit")
    failed, why = typed(f"parts/{key}", "prepare", order.replace("lamp", "boom"))
    refused, names = typed(f"parts/{key}", "spell", order)
    nobody, _ = typed("parts/nobody", "judge", order)

    assert (done, msgspec.json.decode(said)) == (0, {"node": "judge", "returned": "action", "action": "ASK"})
    assert (kept, (await seen(http, key))[1]["values"]) == (0, {"prepared": 2})
    assert failed == 1
    assert "prepare: ValueError: it does not hold (error)" in why
    assert refused == 2
    assert "decide, judge, prepare, weigh" in names
    assert nobody == 3
