"""`headrace runs` and `headrace dead`: what a store has of a workflow, page by page."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from headrace.actors.store import Store
from headrace.cli.app import app
from headrace.cli.project import Project, RunFile
from headrace.workflows import parking
from headrace.workflows.commit import Commit, DeadLetter
from headrace.workflows.keyspace import audit_key, partition_of
from headrace.workflows.store import WorkflowDescriptor

PARTITIONS = 3
KEYS = [f"s{number}" for number in range(25)]
ENDED = "s7"

Said = Callable[..., str]


def letter(number: int, reason: str, node: str | None) -> DeadLetter:
    return DeadLetter(
        id=f"readings/0/{number}", key="s1", source="readings", node=node, reason=reason, error="too\ncold",
        time=1_764_168_000_000 + number, data=b'{"celsius": -300}' if node else b"\xff",
        traceback='  File "flow.py", line 3' if node else None,
    )  # fmt: skip


async def fill(url: str) -> None:
    async with Store(url, "heat") as store:
        await store.publish_workflow(WorkflowDescriptor(name="heat", partitions=PARTITIONS))
        for partition in range(PARTITIONS):
            owner = (await store.acquire(partition, term=1, placement=1, worker="worker/0")).owner
            keys = [key for key in KEYS if partition_of(key, PARTITIONS) == partition]
            runs = {
                key: [
                    "status",
                    "completed" if key == ENDED else "running",
                    "number",
                    str(number),
                    "node:mean",
                    '{"n":2}',
                ]
                for number, key in enumerate(keys, start=1)
            }
            if ENDED in runs:
                runs[ENDED] += ["ended", "1764168000000", "result", '"cold"']
            ended = {ENDED: 60_000} if ENDED in runs else {}
            dead = [
                letter(10 * partition + count, *(("decode", None) if count else ("error", "mean")))
                for count in range(3)
            ]
            await store.commit(partition, owner, Commit(sequence=1, runs=runs, ended=ended, dead=dead))


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Said:
    """Calls the command in an empty folder, with a store that has a workflow; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_REDIS_URL", redis_url)
    asyncio.run(fill(redis_url))

    def said(*arguments: str, code: int = 0, answer: str | None = None) -> str:
        result = CliRunner().invoke(app, list(arguments), input=answer)
        assert result.exit_code == code, result.output
        return result.output

    return said


@pytest.mark.parametrize("limit", [1, 7, 25, 100])
def test_pages_of_runs_have_each_run_once(said: Said, limit: int) -> None:
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = json.loads(said("runs", "list", "-n", str(limit), "--cursor", cursor, "-o", "json"))
        assert len(page["runs"]) <= limit
        found += [run["key"] for run in page["runs"]]
        cursor = page["cursor"]

    assert sorted(found) == sorted(KEYS)


def test_runs_are_listed_by_status(said: Said) -> None:
    page = json.loads(said("runs", "list", "heat", "--status", "completed", "-o", "json"))

    [run] = page["runs"]
    assert (run["workflow"], run["key"], run["ended"]) == ("heat", ENDED, 1_764_168_000_000)
    assert run["partition"] == partition_of(ENDED, PARTITIONS)


def test_a_list_says_how_to_go_on(said: Said) -> None:
    text = said("runs", "list", "--limit", "2")

    assert text.count("heat/") == 2
    assert "more: headrace runs list heat --limit 2 --cursor " in text


def test_a_run_is_shown_with_its_states(said: Said) -> None:
    text = said("runs", "show", f"heat/{ENDED}")
    view = json.loads(said("runs", "show", f"heat/{ENDED}", "-o", "json"))

    assert f"heat/{ENDED}  completed" in text
    assert 'node mean\n{\n  "n": 2\n}\nresult\n"cold"' in text
    assert (view["status"], view["nodes"], view["result"]) == ("completed", {"mean": {"n": 2}}, "cold")


def test_a_key_alone_is_told_the_name_of_its_run(said: Said, redis_url: str) -> None:
    """Found by hand: it was looked for, as a workflow, in a store that nobody had started."""
    heat = RunFile(
        workflow="heat", target="heat.py", pid=os.getpid(), host=socket.gethostname(), redis_url=redis_url, started=1.0
    )
    Project(Path.cwd()).note(heat)

    assert "Type: headrace runs show heat/s7" in said("runs", "show", "s7", code=2)
    assert "headrace runs show heat/KEY" in said("runs", "show", "heat", code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("runs", "show", "heat/nobody"), 3, "heat has no run 'nobody'"),
        (("runs", "show", "heat"), 2, "headrace runs show heat/KEY"),
        (("runs", "list", "haet"), 3, "Did you mean heat?"),
        (("runs", "list", "--cursor", "x"), 1, "'x' is no cursor"),
        (("dead", "show", "heat/0/1-1"), 3, "There is no dead letter heat/0/1-1"),
        (("dead", "show", "heat/0"), 2, "Take what `headrace dead list` prints"),
        (("dead", "drop", "heat"), 2, "--reason WORD, --node NAME, or --all"),
        (("dead", "drop", "heat", "--all"), 2, "There is nobody to ask: add --yes if you mean it."),
        (("runs",), 2, "list"),
    ],
)
def test_what_is_not_there_or_not_clear_is_told(said: Said, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in said(*arguments, code=code)


def test_several_workflows_have_to_be_named(said: Said, redis_url: str) -> None:
    async def another() -> None:
        async with Store(redis_url, "cold") as store:
            await store.publish_workflow(WorkflowDescriptor(name="cold", partitions=1))

    asyncio.run(another())

    assert "several workflows: cold, heat" in said("runs", "list", code=2)
    assert said("dead", "list", "cold") == "cold has no dead letters.\n"


@pytest.mark.parametrize("limit", [1, 4, 9])
def test_pages_of_dead_letters_come_newest_first(said: Said, limit: int) -> None:
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = json.loads(said("dead", "list", "-n", str(limit), "--cursor", cursor, "-o", "json"))
        found += [row["address"] for row in page["letters"]]
        cursor = page["cursor"]

    entries = [address.rpartition("/")[2] for address in found]
    times = [tuple(map(int, entry.split("-"))) for entry in entries]
    assert len(set(found)) == len(found) == 9
    assert times == sorted(times, reverse=True)


def test_a_dead_letter_is_listed_and_shown(said: Said) -> None:
    text = said("dead", "list", "--reason", "error", "-n", "1")
    address = text.split()[0]
    row = json.loads(said("dead", "show", address, "-o", "json"))
    shown = said("dead", "show", address)

    assert "readings of s1 at mean\n  error: too cold" in text
    assert f"more: headrace dead list heat --reason error --limit 1 --cursor {address.split('/')[2]}." in text
    assert (row["address"], row["node"], row["data"]) == (address, "mean", {"celsius": -300})
    assert 'File "flow.py", line 3' in shown
    assert '"celsius": -300' in shown


def test_data_that_is_no_json_is_given_as_base64(said: Said) -> None:
    [row, *_] = json.loads(said("dead", "list", "--reason", "decode", "-o", "json"))["letters"]

    assert row["data_base64"] == "/w=="


def test_dropped_letters_are_gone_and_who_did_it_is_kept(said: Said, redis_url: str) -> None:
    one = said("dead", "list", "--reason", "error", "-n", "1").split()[0]

    assert said("dead", "drop", "heat", "--reason", "decode", "--yes") == "Dropped 6 of 6 dead letters of heat.\n"
    assert said("dead", "drop", one, "-y") == "Dropped 1 of 1 dead letter of heat.\n"
    assert said("dead", "drop", one, "-y") == "heat has no such dead letters.\n"

    left = json.loads(said("dead", "list", "-o", "json"))["letters"]
    assert [row["reason"] for row in left] == ["error", "error"]
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        audits = [fields for _, fields in client.xrange(audit_key("heat"))]
    assert [(row["count"], row["why"]) for row in audits] == [("6", "reason=decode"), ("1", "by address")]
    assert "@" in audits[0]["who"]


def test_parked_says_what_stands_still_and_why(said: Said, redis_url: str) -> None:
    assert said("parked", "heat") == "Nothing of heat stands still.\n"
    first = parking.Ticket(1, 1, "mean", "s1")
    rows = {
        first: parking.Parked(
            id="readings/0/7", key="s1", source="readings", time=1, data=b"1", attempts=2, error="OSError: not\nnow",
            since=1_764_168_000_000, due=4_102_444_800_000,
        ),
        parking.Ticket(2, 2, "mean", "s1"): parking.Parked(
            id="readings/0/8", key="s1", source="readings", time=2, data=b"2", reason=parking.BEHIND,
        ),
        parking.Ticket(3, 3, "", "s2"): parking.Parked(
            id="readings/0/9", key="s2", source="readings", time=3, data=b"3", reason=parking.BEHIND,
        ),
    }  # fmt: skip

    async def park() -> None:
        async with Store(redis_url, "heat") as store:
            owner = (await store.acquire(1, term=1, placement=1, worker="worker/0")).owner
            parked = {ticket.field: parking.encode(row) for ticket, row in rows.items()}
            await store.commit(1, owner, Commit(sequence=2, parked=parked, due={first.field: 4_102_444_800_000}))

    asyncio.run(park())

    text = said("parked", "heat", "--node", "mean")
    assert "heat/s1  readings/0/7 before mean  since " in text
    assert "attempt 3 in " in text
    assert "after OSError: not now" in text
    assert "readings/0/8 before mean" in text
    assert "behind another event of its key" in text
    assert "readings/0/9" not in text
    assert "2 more: say --limit 3" in said("parked", "heat", "-n", "1")
    found = json.loads(said("parked", "heat", "--key", "s2", "-o", "json"))
    assert found["count"] == 1
    assert (found["events"][0]["event"], found["events"][0]["node"], found["events"][0]["due"]) == (
        "readings/0/9", None, None,
    )  # fmt: skip


def test_a_list_says_how_many_letters_are_gone_and_why(said: Said, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for partition, fields in ((0, {"dropped:age": 1200, "held": 5}), (2, {"dropped:age": 3, "dropped:count": 7})):
            client.hset(f"hr:{{heat/{partition}}}:letters", mapping=fields)

    text = said("dead", "list", "heat")
    page = json.loads(said("dead", "list", "heat", "-o", "json"))

    assert "1,210 older ones are gone: 1,203 too old, 7 over the number that a partition keeps" in " ".join(
        text.split()
    )
    assert page["dropped"] == {"age": 1203, "count": 7}


def test_dropped_letters_make_room(said: Said, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        before = int(str(client.hget("hr:{heat/0}:letters", "held")))
        said("dead", "drop", "heat", "--all", "--yes")

        assert before > 0
        assert client.hget("hr:{heat/0}:letters", "held") == "0"
