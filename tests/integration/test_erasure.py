"""A key that is forgotten is nowhere in the store: not in the run, and not in what callers have left of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from command_line import Start, commands_in, said
from hooks import SECRET, Hooks
from waiting import until

FLOW = """
from headrace import Action, Complete, Context, Event, MessageSource, Node, Reject, RequestSource, Workflow
import msgspec

class Visit(msgspec.Struct):
    what: str

class Do(Action):
    WAIT = "wait"

class Take(Node[Visit, list[str], Do | Complete | None]):
    def process(self, event: Event[Visit], ctx: Context[list[str]]) -> Do | Complete | None:
        what = event.data.what
        if what.startswith("refuse"):
            raise Reject("not " + what)
        ctx.state.append(what)
        ctx.set_value("progress", what)
        ctx.reply({"heard": what})
        return Do.WAIT if what.startswith("wait") else Complete(what) if what.startswith("end") else None

async def say(event: Event[Visit], ctx: Context) -> None:
    async with ctx.stream("words") as stream:
        await stream.write(event.data.what)

workflow = Workflow("visits", partitions=2)
visits = workflow.source(RequestSource(Visit))
spoken = workflow.source(RequestSource(Visit, name="spoken"))
words = workflow.source(MessageSource("word", Visit))
take = workflow.node(Take(), name="take")
wait = workflow.wait(words)
visits.to(take)
spoken.to(workflow.node(say))
take.on(Do.WAIT).to(wait)
wait.to(take)
"""
OPTIONS = f"""
[gateway]
callback_secrets = "{SECRET}"
callback_networks = "127.0.0.0/8"
callback_plain = true
callback_first_pause = 3600
"""
ADA = "ada-lovelace"
MARK = "difference-engine"


def lies_there(client: redis.Redis) -> str:
    """All keys of the store, and all that they hold."""
    parts: list[Any] = []
    for key in client.scan_iter(count=1000):
        read: dict[bytes, Any] = {
            b"string": client.get, b"hash": client.hgetall, b"set": client.smembers, b"stream": client.xrange,
            b"list": lambda name: client.lrange(name, 0, -1), b"zset": lambda name: client.zrange(name, 0, -1),
        }  # fmt: skip
        parts += [key, read[client.type(key)](key)]
    return repr(parts)


def mentions(text: str, pattern: str) -> list[str]:
    """Each with what stands around it."""
    return [text[max(0, found.start() - 300) : found.end() + 100] for found in re.finditer(pattern, text)]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    (tmp_path / "headrace.toml").write_text(OPTIONS)
    with commands_in(tmp_path, FLOW) as start:
        yield start


def lives(http: httpx.Client, key: str, mark: str, hook: str) -> None:
    """A run with all that there may be of one: a second run of its key stands at a wait."""
    asking = {"Headrace-Callback": hook}

    def post(what: str, path: str = "events", **headers: str) -> httpx.Response:
        answer = http.post(f"/runs/{key}/{path}", json={"what": f"{what} {mark}"}, headers={**asking, **headers})
        assert answer.status_code in (200, 202), answer.text
        return answer

    assert http.post(f"/runs/{key}/events", json={"what": f"refuse {mark}"}, headers=asking).status_code == 422
    post("end", **{"Idempotency-Key": f"{key}-once"})
    post("more")
    post("say", "events?source=spoken")
    post("wait")
    claim = http.get(f"/runs/{key}").json()["wait"]["id"]
    post("wait", "messages/word", **{"If-Match": f'"{claim}"', "Prefer": "wait=10"})
    for path in ("streams/words/tickets", "session/tickets"):
        assert http.post(f"/runs/{key}/{path}").status_code == 200
    assert mark in http.get(f"/runs/{key}/values/progress").text
    assert mark in http.get(f"/runs/{key}/streams/words").text


@pytest.mark.slow
def test_of_a_key_that_is_forgotten_nothing_lies_in_the_store_and_nothing_is_told(redis_url: str, start: Start) -> None:
    client = redis.Redis.from_url(redis_url)
    with Hooks([503]) as failing, Hooks([204]) as taking:
        ran = start("dev", "flow.py", "--inline", "--no-live", "--redis", redis_url, "--serve", "--port", "0")
        ran.says("running, after")
        found = re.search(r"HTTP\s+(http://\S+)", ran.text)
        assert found, ran.text
        with httpx.Client(base_url=found[1], timeout=30) as http:
            lives(http, ADA, MARK, failing.url)
            lives(http, f"{ADA}-told", MARK, taking.url)
            lives(http, "bob", "loom", failing.url)
            until(lambda: failing.told, "callbacks were tried, and are to be tried again")
            until(
                lambda: (
                    {row["status"] for row in http.get(f"/runs/{ADA}-told/callbacks").json()["callbacks"]}
                    == {"delivered"}
                ),
                "the other ones are told",
            )
            there = lies_there(client)
            names = re.findall(r"\}:(\w+):[^']*ada-lovelace", there)
            assert {"run", "starting", "claimed", "streams", "stream", "callbacks_of"} <= set(names)
            assert {"reply", "request", "callback", "ticket"} <= set(re.findall(r":(\w+):[0-9a-f_msg]+'", there))

            for key in (ADA, f"{ADA}-told"):
                said(start, "runs", "delete", f"visits/{key}", "-y")
                assert mentions(lies_there(client), rf"{key}(?!-told)") == []
            left = lies_there(client)
            assert mentions(left, MARK) == []
            assert "bob" in left
            assert "loom" in left
            assert len(http.get("/runs/bob/callbacks").json()["callbacks"]) >= 3
            assert http.get(f"/runs/{ADA}").status_code == 404
            again = http.post(f"/runs/{ADA}/events", json={"what": "other"}, headers={"Idempotency-Key": f"{ADA}-once"})
            assert (again.status_code, again.json()) == (200, {"heard": "other"})  # it is a new request
        assert start("stop", "visits").ends() == 0
