"""`dev`, `run`, `status` and `stop` as a user types them, with real servers and a Ray of their own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer

from brokers import CACHE, Broker, Topics
from command_line import Headrace
from headrace.embedded import Valkey
from headrace.embedded.ports import free_port
from waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

FLOW = """
import msgspec
from headrace import Action, Context, Event, KafkaSink, KafkaSource, Workflow

class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float

class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"

def classify(event: Event[Reading], ctx: Context) -> Heat:
    print("classifying", event.data.sensor)
    return Heat.HIGH if event.data.celsius > 32 else Heat.NORMAL

def to_alert(event: Event[Reading], ctx: Context) -> str:
    return f"{event.data.sensor} is hot"

workflow = Workflow("heat", partitions=2)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
classified, alert = workflow.node(classify), workflow.node(to_alert)
readings.to(classified)
classified.on(Heat.NORMAL).to(None)
classified.on(Heat.HIGH).to(alert)
alert.to(workflow.sink(KafkaSink("ALERTS", str)))
"""
ENDING = """
from headrace import Context, Event, KafkaSource, Terminate, Workflow

def stop_at_three(event: Event[int], ctx: Context) -> Terminate | None:
    return Terminate("three came") if event.data == 3 else None

workflow = Workflow("ending", keyed=False)
workflow.source(KafkaSource("NUMBERS", int)).to(workflow.node(stop_at_three))
"""


Start = Callable[..., Headrace]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `headrace` with these arguments, in a project folder with `flow.py`."""
    started: list[Headrace] = []
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "cache").symlink_to(CACHE)

    def start(*arguments: str, flow: str = FLOW) -> Headrace:
        if not (tmp_path / "flow.py").exists():
            (tmp_path / "flow.py").write_text(flow)
        started.append(Headrace(tmp_path, *arguments))
        return started[-1]

    yield start
    for headrace in started:
        headrace.process.kill()
        headrace.process.wait()


def all_gone(family: list[psutil.Process]) -> bool:
    return not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def row(status: str, name: str) -> dict[str, Any]:
    """One process of what `status -o json` says."""
    [workflow] = json.loads(status)
    return next(role for role in workflow["status"]["roles"] if role["role"] == name)


def test_dev_runs_a_workflow_with_nothing_but_its_file(start: Start, tmp_path: Path) -> None:
    dev = start("dev", "flow.py", "--no-live")
    dev.says("running, after")
    family = dev.family()

    sender = re.search(r"python (\S+send_\S+\.py)", dev.text)
    assert sender is not None, dev.text
    readings = ['{"sensor": "s1", "celsius": 40}', '{"sensor": "s2", "celsius": 20}', '{"sensor": 7}']
    subprocess.run([sys.executable, sender[1], *readings], cwd=tmp_path, check=True)
    dev.says("outputs 1   dead letters 1")
    dev.says("last dead letter: READINGS")

    def outputs_by_status() -> int:
        status = start("status", "heat", "-o", "json")
        assert status.ends() == 0
        return int(row(status.text, "worker/0")["counters"]["outputs"])

    until(lambda: outputs_by_status() == 1, "the document in the store, written twice a second, says the same")
    log = tmp_path / ".headrace/logs/heat.log"
    until(lambda: "classifying s1" in log.read_text(), "user code's prints are kept")

    acquired = log.read_text().count("partition_acquired")
    next(process for process in family if "valkey" in process.name()).kill()
    dev.says("Valkey has ended; starting it again.")
    # What leaves before that may leave again: this broker has no transactions.
    until(lambda: log.read_text().count("partition_acquired") == 2 * acquired, "all partitions are acquired again")
    subprocess.run([sys.executable, sender[1], readings[0]], cwd=tmp_path, check=True)
    dev.says("outputs 2   dead letters 1")

    stop = start("stop", "heat")
    assert stop.ends() == 0
    assert stop.text == "heat has stopped.\n"
    assert dev.ends() == 0
    assert "heat has stopped: 4 events, 2 outputs, 1 dead letters." in dev.text
    assert all_gone(family)
    assert start("status", "heat").ends() == 2, "nothing runs from this folder any more"


@pytest.mark.parametrize("how", ["ctrl-c", "ctrl-c twice", "kill -9"])
def test_nothing_is_left_of_dev(start: Start, how: str) -> None:
    dev = start("dev", "flow.py", "--no-live", "--fuse", "all")
    dev.says("running, after")
    family = dev.family()
    assert len(family) > 5

    dev.process.send_signal(signal.SIGKILL if how == "kill -9" else signal.SIGINT)
    if how == "ctrl-c twice":
        dev.says("stopping")
        dev.process.send_signal(signal.SIGINT)

    assert dev.ends() == {"ctrl-c": 0, "ctrl-c twice": 130, "kill -9": -9}[how]
    until(lambda: all_gone(family), "all its processes are gone", within=10)


def test_a_second_dev_of_a_workflow_is_refused(start: Start) -> None:
    first = start("dev", "flow.py", "--no-live")
    first.says("starting ...")

    second = start("dev", "flow.py", "--no-live")

    assert second.ends() == 2
    assert "heat is running from this folder already" in second.text
    first.process.send_signal(signal.SIGTERM)
    assert first.ends() in (0, 130)


def test_run_waits_for_servers_and_outlives_their_absence(start: Start, tmp_path: Path, own_kafka: Broker) -> None:
    port = free_port()
    topics = Topics(own_kafka.bootstrap)
    readings = topics(2)
    flow = FLOW.replace("READINGS", readings).replace("ALERTS", topics(2))
    own_kafka.kill()

    run = start("run", "flow.py", "--redis", f"redis://127.0.0.1:{port}/0", "--kafka", own_kafka.bootstrap, flow=flow)

    run.says(f"waiting: the store at 127.0.0.1:{port}/0 does not answer", within=10)
    with Valkey(folder=tmp_path / "valkey", port=port) as valkey:
        run.says(f"Redis at 127.0.0.1:{port}/0 answers.")
        run.says(f"waiting: No Kafka broker can be reached at {own_kafka.bootstrap}", within=10)
        own_kafka.restart()
        run.says("running, after")

        valkey.kill()
        run.says("store_unreachable: the store at", within=10)
        valkey.start()
        run.says("over: store_unreachable")

        own_kafka.kill()
        run.says("kafka_unreachable", within=10)
        own_kafka.restart()
        run.says("over: kafka_unreachable")

        send(own_kafka.bootstrap, readings, b'{"sensor": "s1", "celsius": 40}')
        run.says("outputs 1")
        run.process.send_signal(signal.SIGTERM)
        assert run.ends() == 0


@pytest.mark.parametrize("keep", [False, True])
def test_run_ends_with_the_run_of_an_unkeyed_workflow(
    start: Start, kafka: Broker, topic: Topics, redis_url: str, keep: bool
) -> None:
    numbers = topic()
    servers = ["--redis", redis_url, "--kafka", kafka.bootstrap]

    run = start("run", "flow.py", *servers, *(["--keep"] if keep else []), flow=ENDING.replace("NUMBERS", numbers))
    run.says("running, after")
    send(kafka.bootstrap, numbers, b"1", b"2", b"3")
    run.says('ending has ended, terminated: "three came"')

    if keep:
        assert run.process.poll() is None
        assert start("stop", "ending", "--redis", redis_url).ends() == 0
    assert run.ends() == 0


def test_partitions_stay_those_of_the_first_start(start: Start, kafka: Broker, topic: Topics, redis_url: str) -> None:
    servers = ["--redis", redis_url, "--kafka", kafka.bootstrap]
    flow = FLOW.replace("READINGS", topic(2)).replace("ALERTS", topic(2))
    first = start("run", "flow.py", *servers, flow=flow)
    first.says("running, after")
    first.process.send_signal(signal.SIGINT)
    assert first.ends() == 0

    second = start("run", "flow.py", *servers, "--partitions", "3")

    assert second.ends() == 1
    assert "heat has 2 partitions in this store since its first start, not 3" in second.text


def send(bootstrap: str, topic: str, *values: bytes) -> None:
    async def work() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for value in values:
                await producer.send_and_wait(topic, value, key=b"s1")

    asyncio.run(work())
