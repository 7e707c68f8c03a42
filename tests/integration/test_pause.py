"""`pause` and `resume`, as typed: a workflow in one process, its store real; nothing is taken until it goes on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Headrace, Start, commands_in, said
from headrace.actors.store import Store
from headrace.sources.channel import ChannelSender
from waiting import until_async

pytestmark = pytest.mark.slow

FLOW = """
from headrace import ChannelSource, Context, Event, Workflow

def remember(event: Event[str], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data)

workflow = Workflow("pausing", keyed=False)
node = workflow.node(remember)
workflow.source(ChannelSource(str, capacity=100, name="left")).to(node)
workflow.source(ChannelSource(str, capacity=100, name="right")).to(node)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a folder with `flow.py`."""
    with commands_in(tmp_path, FLOW) as start:
        yield start


def told(start: Start, *arguments: str, code: int = 0) -> Any:
    """What a command says as JSON."""
    return json.loads(said(start, *arguments, "-o", "json", code=code))


async def send(url: str, channel: str, *texts: str) -> None:
    sender = ChannelSender[str](url, "pausing", channel, partitions=1, capacity=100, key=None)
    for text in texts:
        await sender.send(text)
    await sender.disconnect()


async def remembered(url: str) -> list[str]:
    async with Store(url, "pausing") as store:
        found = await store.run(0, "")
    return json.loads(found["node:remember"]) if "node:remember" in found else []


async def become(url: str, *texts: str) -> None:
    async def there() -> bool:
        return await remembered(url) == list(texts)

    await until_async(there, f"the state is {texts}")


async def test_nothing_is_taken_until_it_goes_on_also_when_its_process_was_killed(start: Start, redis_url: str) -> None:
    run = ["dev", "flow.py", "--inline", "--no-live", "--redis", redis_url]
    first = start(*run)
    first.says("running, after")
    await send(redis_url, "left", "one")
    await become(redis_url, "one")

    document = told(start, "pause", "pausing")
    assert (document["running"], document["at_rest"], document["changed"]) == (True, True, True)
    again = told(start, "pause", "pausing")
    assert (again["paused"], again["changed"]) == (document["paused"], False)
    await send(redis_url, "left", "two")
    await send(redis_url, "right", "three")

    first.process.kill()
    assert first.ends() == -signal.SIGKILL
    second = start(*run)
    second.says("running, after")
    [row] = told(start, "status", "pausing")
    assert row["status"]["state"] == "paused"
    [pause] = row["paused"]
    assert (pause["source"], "@" in pause["by"]) == ("", True)
    assert abs(pause["since"] - time.time()) < 600
    assert await remembered(redis_url) == ["one"]

    assert told(start, "pause", "pausing", "--source", "right")["changed"]
    document = told(start, "resume", "pausing")
    assert [row["source"] for row in document["paused"]] == ["right"]
    await become(redis_url, "one", "two")
    await send(redis_url, "left", "four")
    await become(redis_url, "one", "two", "four")

    assert told(start, "resume", "pausing", "--source", "right")["paused"] == []
    await become(redis_url, "one", "two", "four", "three")
    assert start("stop", "pausing").ends() == 0


async def test_events_for_a_paused_node_stand_still_until_it_goes_on_also_after_another_start(
    start: Start, redis_url: str
) -> None:
    run = ["dev", "flow.py", "--inline", "--no-live", "--redis", redis_url]
    first = start(*run)
    first.says("running, after")

    document = told(start, "pause", "pausing", "--node", "remember")
    assert [(row["source"], row["node"]) for row in document["paused"]] == [("", "remember")]
    assert document["at_rest"]
    await send(redis_url, "left", "one", "two")

    async def stand() -> bool:
        rows = told(start, "parked", "pausing")["events"]
        return [(row["node"], row["reason"]) for row in rows] == [("remember", "paused")] * 2

    await until_async(stand, "both stand still")
    first.process.kill()
    assert first.ends() == -signal.SIGKILL
    second = start(*run)
    second.says("running, after")
    [row] = told(start, "status", "pausing")
    assert (row["status"]["state"], row["paused"][0]["node"]) == ("running", "remember")
    assert await remembered(redis_url) == []

    assert told(start, "resume", "pausing", "--node", "remember")["paused"] == []
    await become(redis_url, "one", "two")
    assert start("stop", "pausing").ends() == 0


def test_what_can_not_be_paused_is_refused_with_what_there_is(start: Start, redis_url: str) -> None:
    started = start("dev", "flow.py", "--inline", "--no-live", "--redis", redis_url)
    started.says("running, after")

    unknown = start("pause", "pausin", "--redis", redis_url)
    assert unknown.ends() == 3
    assert "Did you mean pausing?" in unknown.text
    source = start("pause", "pausing", "--source", "middle")
    assert source.ends() == 2
    assert "It has: left, right." in source.text
    node = start("pause", "pausing", "--node", "forget")
    assert node.ends() == 2
    assert "pausing has no node forget. It has: remember." in node.text
    start("pause", "pausing").ends()
    part = start("resume", "pausing", "--source", "left")
    assert part.ends() == 2
    assert "headrace resume pausing" in part.text

    assert start("stop", "pausing").ends() == 0
    assert "it stays so paused" in _once_ended(start("pause", "pausing", "--redis", redis_url))
    assert "goes on once it is started" in _once_ended(start("resume", "pausing", "--redis", redis_url))
    assert "was not paused" in _once_ended(start("resume", "pausing", "--redis", redis_url))


def _once_ended(ran: Headrace) -> str:
    assert ran.ends() == 0, ran.text
    return ran.text
