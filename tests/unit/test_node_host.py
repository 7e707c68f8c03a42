"""The node role: opens its nodes on one thread, runs calls there, and gives up an `open()` that takes too long."""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
import pytest

from headrace.actors.node_host import NodeHost, OpenTimeout
from headrace.actors.spec import CodeRef, Deployment, Drain, EngineStatus, GetStatus, NodeRole, Problem, RoleSpec
from headrace.sources.channel import ChannelSource
from headrace.workflows.calls import Call, CallResult
from headrace.workflows.context import Context
from headrace.workflows.events import Event
from headrace.workflows.nodes import Node
from headrace.workflows.workflow import Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Total(msgspec.Struct):
    celsius: float = 0.0


class Sum(Node[Reading, Total, None]):
    """Adds up, and remembers on which threads it was used."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    async def open(self) -> None:
        self.threads.append(threading.get_ident())

    def process(self, event: Event[Reading], ctx: Context[Total]) -> None:
        self.threads.append(threading.get_ident())
        ctx.state.celsius += event.data.celsius

    async def close(self) -> None:
        self.threads.append(threading.get_ident())


class AsyncSum(Sum):
    """The same, waiting for something in between."""

    async def process(self, event: Event[Reading], ctx: Context[Total]) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().process(event, ctx)


def host_of(node: Node[Reading, Total, None], **options: float) -> NodeHost:
    workflow = Workflow("sums")
    workflow.source(ChannelSource(Reading, capacity=10, key="sensor")).to(workflow.node(node, name="sum"))
    code = CodeRef(folder="/", module="m", version="1")
    deployment = Deployment(workflow="sums", code=code, redis_url="redis://", partitions=1, **options)  # type: ignore[arg-type]
    role = RoleSpec(role=NodeRole(0, 0), actor="a", incarnation=1, term=1, deployment=deployment)
    return NodeHost(role, workflow.compile(), lambda report: None)


def call_of(number: int, partition: int, *celsius: float) -> Call:
    count = len(celsius)
    return Call(
        partition=partition, unit=0, replica=0, number=number, owner="o", now=0, keys=["s1"], numbers=[1],
        bases=[0], states=[[None]], shared=None, runs=[0] * count, nodes=[0] * count, types=[0] * count,
        blobs=[msgspec.json.encode(Reading("s1", value)) for value in celsius], origins=["channel:x"],
        origin_of=[0] * count, offsets=list(range(count)), times=[0] * count,
    )  # fmt: skip


def answer(host: NodeHost, *calls: Call) -> list[CallResult]:
    return msgspec.msgpack.decode(host.call(msgspec.msgpack.encode(calls)), type=list[CallResult])


@pytest.mark.parametrize("node", [Sum(), AsyncSum()], ids=["plain", "async"])
def test_calls_of_several_partitions_travel_together_and_stay_apart(node: Sum) -> None:
    host = host_of(node)
    host.start()

    first, second = answer(host, call_of(1, 0, 1.5, 2.0), call_of(1, 1, 4.0))

    assert first.states == [[b'{"celsius":3.5}']]
    assert second.states == [[b'{"celsius":4.0}']]
    host.stop()


@pytest.mark.parametrize("node", [Sum(), AsyncSum()], ids=["plain", "async"])
def test_user_code_runs_on_one_thread_from_open_to_close(node: Sum) -> None:
    host = host_of(node)
    host.start()
    answer(host, call_of(1, 0, 1.0))
    host.stop()
    host.stop()

    assert len(node.threads) == 3
    assert len(set(node.threads)) == 1
    assert node.threads[0] != threading.get_ident()


def test_a_status_can_be_asked_for_while_a_call_runs() -> None:
    running, done = threading.Event(), threading.Event()

    class Slow(Sum):
        def process(self, event: Event[Reading], ctx: Context[Total]) -> None:
            running.set()
            done.wait(20)

    host = host_of(Slow())
    host.start()
    caller = threading.Thread(target=lambda: answer(host, call_of(1, 0, 1.0)))
    caller.start()
    assert running.wait(20)

    status = host.control(GetStatus())

    done.set()
    caller.join()
    assert isinstance(status, EngineStatus)
    assert status.counters["calls"] == 0
    after = host.control(GetStatus())
    assert isinstance(after, EngineStatus)
    assert (after.counters["calls"], after.counters["events"]) == (1, 1)
    host.stop()


def test_an_open_that_raises_is_the_users_error() -> None:
    class Broken(Sum):
        async def open(self) -> None:
            raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        host_of(Broken()).start()


@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_an_open_that_takes_too_long_is_given_up(kind: str) -> None:
    class Slow(Sum):
        async def open(self) -> None:
            if kind == "async":
                await asyncio.sleep(60)
            time.sleep(0.5)  # noqa: ASYNC251  that it blocks is the point

    with pytest.raises(OpenTimeout, match=r"open\(\) of sum/0 took more than 0.05 s"):
        host_of(Slow(), open_timeout=0.05).start()


def test_a_worker_s_message_is_refused() -> None:
    reply = host_of(Sum()).control(Drain())

    assert isinstance(reply, Problem)
    assert reply.sentence == "A node has no Drain."
