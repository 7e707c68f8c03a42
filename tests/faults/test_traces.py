"""Traces on real parts: from the header of a record to that of an output, over kills of a worker and of a node."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from brokers import Broker, Topics
from committed import committed_records
from headrace.actors.local_ray import LocalRay
from headrace.embedded import Valkey
from headrace.tracing.options import Tracing
from otlp import CONSUMER, PRODUCER, Got, Receiver, tree
from rig import Rig, run
from waiting import until

pytestmark = pytest.mark.cluster
PARENT = "00f067aa0ba902b7"


@dataclass
class Traced:
    """The workflow `traced`, its receiver, and what has come out of it."""

    rig: Rig
    folder: Path
    receiver: Receiver
    numbers: list[int] = field(default_factory=list)

    def trace_id(self, number: int) -> str:
        """Of the event with that number."""
        return f"{0xABC:016x}{number:016x}"

    def send(self, *numbers: int, flags: str = "01") -> None:
        """Readings that belong to a trace each."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.rig.bootstrap) as producer:
                for number in numbers:
                    header = f"00-{self.trace_id(number)}-{PARENT}-{flags}".encode()
                    value = msgspec.json.encode({"sensor": "s1", "number": number})
                    headers = [("traceparent", header), ("tracestate", b"vendor=1")]
                    await producer.send_and_wait(self.rig.readings, value, key=b"s1", headers=headers)

        self.numbers += numbers
        run(send())

    def alerts(self) -> dict[int, dict[str, str]]:
        """Number of each committed alert -> its headers, once all are there."""

        def look() -> dict[int, dict[str, str]] | None:
            rows = asyncio.run(committed_records(self.rig.bootstrap, self.rig.alerts))
            found = {
                msgspec.json.decode(row.value)["number"]: {name: value.decode() for name, value in row.headers}
                for row in rows
            }
            return found if len(rows) == len(self.numbers) else None

        found: dict[int, dict[str, str]] = until(look, "each reading has its alert, once", within=60)
        return found

    def spans(self, number: int) -> list[Got]:
        """Those of one event, once the last of them is there."""

        def look() -> list[Got] | None:
            spans = self.receiver.of(self.trace_id(number))
            return spans if {"lookup", f"send {self.rig.alerts}"} <= {span.name for span in spans} else None

        found: list[Got] = until(look, f"the trace of reading {number} has come", within=20)
        return found

    def held(self, number: int) -> None:
        """Send a reading, which stays in the first node until `go`."""
        (self.folder / "hold").touch()
        self.send(number)
        until((self.folder / f"began-{number}").exists, "the node has it", within=20)

    def go(self) -> None:
        """Let the node go on."""
        (self.folder / "hold").unlink()

    def kill(self, role: str) -> None:
        """`kill -9` of a role's process, and wait until another one has the role."""
        pid = self.rig.pid(role)
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.rig.pid(role) != pid, f"{role} is another process", within=40)

    def check_tree(self, number: int, spans: list[Got]) -> dict[str, Got]:
        """One tree, from the sender's span to the output's, whose header is that of the alert."""
        topics = self.rig.readings, self.rig.alerts
        engine = [span for span in spans if span.name != "lookup"]
        assert tree(engine) == {
            "": [f"process {topics[0]}"], f"process {topics[0]}": ["classify"], "classify": ["alert"],
            "alert": [f"send {topics[1]}"],
        }  # fmt: skip
        by_name = {span.name: span for span in engine}
        consumed, produced = by_name[f"process {topics[0]}"], by_name[f"send {topics[1]}"]
        assert (consumed.kind, produced.kind, consumed.parent) == (CONSUMER, PRODUCER, PARENT)
        headers = self.alerts()[number]
        assert (headers["traceparent"], headers["tracestate"]) == (produced.traceparent, "vendor=1")
        assert headers["headrace-id"] == produced.attributes["messaging.message.id"]
        lookups = [span for span in spans if span.name == "lookup"]
        assert {span.parent for span in lookups} == {by_name["classify"].span_id}
        return by_name


@pytest.fixture(scope="module")
def traced(ray_cluster: LocalRay, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """One deployment for all tests, which take their turns."""
    folder = tmp_path_factory.mktemp("traced")
    topics = Topics(kafka.bootstrap)
    readings, alerts = topics(4, name="readings"), topics(4, name="alerts")
    with Receiver() as receiver, Valkey() as server:
        tracing = Tracing(endpoint=f"{receiver.address}/v1/traces")
        with Rig(folder, kafka.bootstrap, server.url, readings, alerts, flow="traced", traces=tracing) as rig:
            rig.ready()
            yield Traced(rig, folder, receiver)
    topics.remove()


def test_a_trace_goes_from_the_record_s_header_through_nodes_to_the_output_s(traced: Traced) -> None:
    traced.send(1)
    traced.send(2, flags="00")

    by_name = traced.check_tree(1, traced.spans(1))
    assert by_name["classify"].attributes["number"] == 1, "what the node's code has set"
    assert by_name["classify"].attributes["headrace.process"] == "classify/0"
    assert by_name["classify"].resource["service.name"] == "traced"
    assert traced.alerts()[2]["traceparent"].endswith(f"{traced.trace_id(2)}-{PARENT}-00"), "handed on as it came"
    assert traced.receiver.of(traced.trace_id(2)) == []


def test_an_event_whose_worker_is_killed_has_one_tree_and_one_header(traced: Traced) -> None:
    traced.held(3)
    traced.kill("worker/0")
    traced.go()

    by_name = traced.check_tree(3, traced.spans(3))
    assert len(by_name) == 4


def test_an_event_whose_node_is_killed_tells_of_the_second_attempt(traced: Traced) -> None:
    traced.held(4)
    traced.kill("classify/0")
    traced.go()

    by_name = traced.check_tree(4, traced.spans(4))
    assert by_name["classify"].attributes["headrace.attempt"] == 2
    assert by_name["alert"].attributes["headrace.attempt"] == 1


def test_a_receiver_that_is_away_changes_nothing_else(traced: Traced) -> None:
    traced.receiver.answer = 503

    traced.send(*range(10, 20))

    headers = traced.alerts()
    assert {headers[number]["traceparent"][3:35] for number in range(10, 20)} == set(
        map(traced.trace_id, range(10, 20))
    )
