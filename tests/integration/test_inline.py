"""`dev --inline`: a workflow in one process, without Ray, on the same store and sources as elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brokers import CACHE, Broker, Topics
from command_line import Headrace
from otlp import Receiver

pytestmark = pytest.mark.slow

FLOW = """
import msgspec
from headrace import Context, Event, KafkaSink, KafkaSource, Workflow

class Reading(msgspec.Struct, frozen=True):
    sensor: str

class Count(msgspec.Struct):
    events: int = 0

def count(event: Event[Reading], ctx: Context[Count]) -> int:
    ctx.state.events += 1
    print("counting", ctx.state.events, flush=True)
    return ctx.state.events

workflow = Workflow("inline", partitions=2)
counted = workflow.node(count)
workflow.source(KafkaSource("READINGS", Reading, key="sensor")).to(counted)
counted.to(workflow.sink(KafkaSink("COUNTS", int)))
"""

Start = Callable[..., Headrace]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a folder with `flow.py`."""
    started: list[Headrace] = []
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "cache").symlink_to(CACHE)

    def start(*arguments: str) -> Headrace:
        started.append(Headrace(tmp_path, *arguments))
        return started[-1]

    yield start
    for headrace in started:
        headrace.process.kill()
        headrace.process.wait()


def test_one_process_counts_each_event_once_also_after_it_was_killed(
    start: Start, tmp_path: Path, redis_url: str, kafka: Broker, topic: Topics
) -> None:
    flow = FLOW.replace("READINGS", topic(2)).replace("COUNTS", topic(2))
    (tmp_path / "flow.py").write_text(flow)
    servers = ["--redis", redis_url, "--kafka", kafka.bootstrap]
    first = start("dev", "flow.py", "--inline", *servers)
    first.says("running, after")
    assert not [process for process in first.family() if "ray" in process.name()], "there is no Ray"

    [sender] = (tmp_path / ".headrace").glob("send_*.py")
    send = [sys.executable, sender, *['{"sensor": "s1"}'] * 3]
    subprocess.run(send, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    first.says("outputs 3")
    first.process.kill()
    assert first.ends() == -signal.SIGKILL

    second = start("dev", "flow.py", "--inline", *servers)
    second.says("running, after")
    subprocess.run(send, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    second.says("counting 6")
    second.says("outputs 3")

    status = start("status", "inline", "-o", "json")
    assert status.ends() == 0
    [row] = json.loads(status.text)
    assert (row["running"], row["status"]["ready"]) == (True, True)
    stop = start("stop", "inline")
    assert (stop.ends(), second.ends()) == (0, 0)
    assert "inline has stopped: 3 events, 3 outputs" in second.text


REFUSING = """
from headrace import Context, Event, KafkaSource, Node, Workflow

class Refuse(Node[str, None, None]):
    def open(self) -> None:
        raise RuntimeError(f"no model for {self.settings['token']}")

    def process(self, event: Event[str], ctx: Context[None]) -> None: ...

workflow = Workflow("refusing", partitions=1)
workflow.source(KafkaSource("WORDS", str)).to(workflow.node(Refuse()))
"""


def test_a_node_that_does_not_open_ends_it_with_the_users_frames(
    start: Start, tmp_path: Path, redis_url: str, kafka: Broker, topic: Topics
) -> None:
    (tmp_path / "flow.py").write_text(REFUSING.replace("WORDS", topic(1)))

    (tmp_path / "token").write_text("hunter2\n")

    dev = start(
        "dev", "flow.py", "--inline", "--redis", redis_url, "--kafka", kafka.bootstrap,
        "--set", f"token=file:{tmp_path / 'token'}",
    )  # fmt: skip

    assert dev.ends() == 1
    assert "refusing does not start: open() of a node has raised." in dev.text
    assert "RuntimeError: no model for ******" in dev.text
    assert "hunter2" not in dev.text
    assert "headrace/actors" not in dev.text


def test_what_settings_say_of_traces_reaches_it_and_a_clean_stop_sends_what_waits(
    start: Start, tmp_path: Path, redis_url: str, kafka: Broker, topic: Topics
) -> None:
    flow = FLOW.replace("READINGS", topic(2)).replace("COUNTS", topic(2))
    (tmp_path / "flow.py").write_text(flow)
    with Receiver() as receiver:
        traces = f'[traces]\nendpoint = "{receiver.address}"\nsampler = "parentbased_always_on"\nkeys = true\n'
        (tmp_path / "headrace.toml").write_text(traces)
        running = start("dev", "flow.py", "--inline", "--redis", redis_url, "--kafka", kafka.bootstrap)
        running.says("running, after")
        [sender] = (tmp_path / ".headrace").glob("send_*.py")
        subprocess.run(
            [sys.executable, sender, '{"sensor": "s1"}'], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
        )
        running.says("counting 1")
        running.process.send_signal(signal.SIGINT)
        assert running.ends() == 0, running.text

    consumed, counted, sent = receiver.spans
    assert (counted.name, counted.parent, sent.parent) == ("count", consumed.span_id, counted.span_id)
    assert (consumed.parent, consumed.attributes["headrace.run.key"]) == ("", "s1")
    assert consumed.resource["service.name"] == "inline"
