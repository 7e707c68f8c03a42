"""A run that people end does not wait for calls: its own are cancelled, those of others go on by themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import Context, Event, KafkaSink, KafkaSource, Node, Workflow
from headrace.testing import Harness
from headrace.workflows.control import ControlEvent, as_records, encode
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.instructions import Load, Recall, Tell
from headrace.workflows.keyspace import CONTROL
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.parking import decode
from headrace.workflows.partition import PartitionCore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from waiting import until_async

MINUTE = timedelta(minutes=1)
NOW = 1_700_000_000_000


class Ask(msgspec.Struct, frozen=True):
    user: str
    text: str


class Model(Node[Ask, list[str], Ask]):
    """Answers at once, but what begins with `slow` only when it is let go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.let_go = asyncio.Event()

    async def process(self, event: Event[Ask], ctx: Context[list[str]]) -> Ask:
        text = event.data.text
        self.calls.append(text)
        ctx.state.append(text)
        try:
            if text.startswith("slow"):
                await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        return event.data


class Counted(Node[Ask, list[str], Ask]):
    """An ordinary one."""

    def process(self, event: Event[Ask], ctx: Context[list[str]]) -> Ask:
        ctx.state.append(event.data.text)
        return event.data


def chat(node: Any, fuse: Literal["all"] | None = None, **options: Any) -> tuple[Workflow, Any, Any]:
    workflow = Workflow("chat", partitions=1, **options)
    asks = workflow.source(KafkaSource("asks", Ask, key="user"))
    said = workflow.sink(KafkaSink("said", Ask))
    model = workflow.node(node, name="model")
    asks.to(model)
    model.to(said)
    return workflow, asks, said


class Worker:
    """Drives one partition as a worker does: calls are under way while other things happen. Time is virtual."""

    def __init__(self, plan: Plan, *, unit_answers: bool = True) -> None:
        self.store = MemoryStore(workflow="chat")
        self.core = PartitionCore(plan, 0, 1, self.store.acquire(0, term=1, placement=1, worker="w"))
        self.runner = UnitRunner(plan, 0)
        self.now = NOW
        self.under_way: list[Dispatch] = []
        self.read = 0
        self._answers = unit_answers
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, *asks: Ask) -> None:
        offsets = list(range(self.read, self.read + len(asks)))
        self.read += len(asks)
        values: list[bytes | None] = [msgspec.json.encode(ask) for ask in asks]
        count = len(asks)
        records = Records(0, "asks/0", offsets, [self.now] * count, [None] * count, values, str(self.read))
        self.core.offer([records], self.now)
        self.turn()

    def terminate(self, key: str, number: int = 0) -> None:
        event = ControlEvent("terminate", key, number, '"enough"')
        self.store.append(0, CONTROL, encode(event))
        asked = self.store.stream(0, CONTROL, self.core.positions.get(CONTROL, "0-0"))
        self.core.control.offer([as_records([(row.id, row.data) for row in asked])], self.now)
        self.turn()

    def advance(self, milliseconds: int) -> None:
        """Let time go on until then, by way of what is due."""
        until = self.now + milliseconds
        while (due := self.core.wakes_at) is not None and due <= until:
            self.now = max(self.now, due)
            self.core.advance(self.now)
            self.turn()
        self.now = until

    def turn(self) -> None:
        while instructions := self.core.instructions():
            for instruction in instructions:
                self.do(instruction)

    def do(self, instruction: Any) -> None:
        if isinstance(instruction, Load):
            self.core.loaded(instruction.keys, self.store.load(0, instruction.keys), self.now)
        elif isinstance(instruction, Recall):
            blobs = self.store.parked(0, [ticket.field for ticket in instruction.tickets])
            assert not self.core.control.misses(instruction.tickets, blobs)
            self.core.recalled(instruction.tickets, blobs, self.now)
        elif isinstance(instruction, Save):
            assert self.core.committed(self.store.commit(0, self.core.owner, instruction.commit), self.now)
        elif isinstance(instruction, Tell):
            self.runner.hasten(instruction.hasten)
        else:
            self.under_way.append(instruction)
            if self._answers:
                task = asyncio.get_running_loop().create_task(self.call(instruction))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def call(self, dispatch: Dispatch) -> None:
        result = await self.runner.run_async(dispatch.call)
        self.answer(dispatch, result)

    def answer(self, dispatch: Dispatch, result: Any) -> None:
        self.under_way.remove(dispatch)
        self.core.finished(result, self.now)
        self.turn()

    def answer_all(self) -> None:
        """Nodes are plain functions, and answer."""
        while self.under_way:
            dispatch = self.under_way[0]
            self.answer(dispatch, self.runner.run(dispatch.call))

    def standing(self) -> list[tuple[str, str]]:
        blobs = self.store.parked(0, sorted(self.store.parked_fields(0)))
        return [(row.key, row.reason) for row in map(decode, filter(None, blobs))]

    def run(self, key: str) -> dict[str, bytes]:
        return dict(self.store.run(0, key))

    def said(self) -> list[str]:
        rows = self.store.outbox(0, 0, 1000)
        return [msgspec.json.decode(output.data, type=Ask).text for _, outputs in rows for output in outputs]


async def test_G9_a_terminate_cancels_the_runs_call_that_is_under_way_and_no_other() -> None:
    model = Model()
    worker = Worker(chat(model)[0].compile())
    worker.send(Ask("ada", "slow 1"), Ask("bob", "slow 2"), Ask("cyd", "3"), Ask("ada", "4"))
    await until_async(lambda: len(model.calls) == 3, "it is so")
    assert worker.run("cyd") == {}  # the call waits for its slow ones, for ten seconds

    worker.terminate("ada")
    await until_async(lambda: worker.run("ada").get("status") == b"terminated", "it is so")

    assert model.cancelled == ["slow 1"]
    assert worker.run("ada")["result"] == b'"enough"'
    assert worker.said() == ["3"]
    model.let_go.set()
    await until_async(lambda: not worker.under_way, "it is so")
    worker.advance(10_000)
    await until_async(lambda: not worker.standing() and not worker.under_way, "it is so")
    assert worker.said() == ["3", "slow 2"]
    assert worker.run("bob")["node:model"] == b'["slow 2"]'
    assert model.calls.count("slow 2") == 1  # it was left to itself, and not made again
    assert "node:model" not in worker.run("ada")


async def test_G9_a_terminate_does_not_wait_for_the_calls_of_other_runs() -> None:
    model = Model()
    worker = Worker(chat(model, epoch_deadline=timedelta(hours=1))[0].compile())
    worker.send(Ask("ada", "1"))
    await until_async(lambda: worker.run("ada").get("status") == b"running", "it is so")
    worker.send(Ask("bob", "slow 2"))
    await until_async(lambda: model.calls == ["1", "slow 2"], "it is so")

    worker.terminate("ada")
    await until_async(lambda: worker.run("ada").get("status") == b"terminated", "it is so")

    assert model.cancelled == []
    assert worker.standing() == [("bob", "slow")]
    model.let_go.set()


async def test_a_call_that_begins_while_a_terminate_waits_is_as_urgent() -> None:
    model = Model()
    workflow = Workflow("chat", partitions=1)
    asks = workflow.source(KafkaSource("asks", Ask, key="user"))
    first, second = workflow.node(Counted(), name="first"), workflow.node(model, name="model")
    asks.to(first)
    first.to(second)
    second.to(None)
    worker = Worker(workflow.compile(), unit_answers=False)
    runners = {unit: UnitRunner(worker.core.plan, unit) for unit in (0, 1)}
    worker.runner = runners[1]
    worker.send(Ask("bob", "slow"))
    [dispatch] = worker.under_way
    worker.terminate("ada")

    worker.answer(dispatch, runners[0].run(dispatch.call))
    [dispatch] = worker.under_way
    await asyncio.wait_for(worker.call(dispatch), timeout=5)

    assert worker.standing() == [("bob", "slow")]
    assert worker.core.idle


async def test_a_call_that_is_on_its_way_when_a_terminate_comes_does_not_wait_long() -> None:
    """What is told beside the calls may overtake them."""
    model = Model()
    worker = Worker(chat(model)[0].compile(), unit_answers=False)
    worker.send(Ask("bob", "slow"))
    worker.terminate("ada")
    [dispatch] = worker.under_way

    await asyncio.wait_for(worker.call(dispatch), timeout=5)

    assert worker.standing() == [("bob", "slow")]


def test_G9_a_call_that_does_not_return_is_given_up_for_a_terminate_and_its_result_dropped() -> None:
    worker = Worker(chat(Counted())[0].compile(), unit_answers=False)
    worker.send(Ask("bob", "1"))
    worker.answer_all()
    worker.send(Ask("ada", "2"), Ask("bob", "3"))
    [stuck] = worker.under_way

    worker.terminate("ada")
    worker.advance(999)
    assert worker.run("ada") == {}  # a call that ends by itself soon is not done twice for it
    worker.advance(1)
    assert worker.run("ada")["status"] == b"terminated"
    assert worker.standing() == [("bob", "unavailable")]

    worker.answer(stuck, worker.runner.run(stuck.call))  # it has returned at last
    assert worker.said() == ["1"]
    worker.answer_all()
    assert worker.said() == ["1", "3"]
    assert worker.run("bob")["node:model"] == b'["1","3"]'
    assert "node:model" not in worker.run("ada")


def test_a_terminate_waits_for_no_call_behind_one_that_does_not_return() -> None:
    worker = Worker(chat(Counted())[0].compile(), unit_answers=False)
    worker.send(Ask("ada", "1"))
    worker.send(Ask("bob", "2"))  # another epoch
    worker.terminate("ada")
    worker.advance(1_000)
    assert worker.run("ada")["status"] == b"terminated"

    worker.terminate("bob")
    worker.advance(1_000)
    assert worker.run("bob")["status"] == b"terminated"
    assert worker.core.idle


def test_calls_get_done_while_runs_are_ended_one_after_the_other() -> None:
    worker = Worker(chat(Counted())[0].compile(), unit_answers=False)
    worker.send(Ask("ada", "1"), Ask("bob", "2"))
    worker.terminate("ada")
    worker.advance(1_000)
    assert worker.run("ada")["status"] == b"terminated"
    [late, again] = worker.under_way
    worker.answer(late, worker.runner.run(late.call))

    worker.terminate("cyd")
    worker.advance(60_000)  # this one is waited for, however long it takes
    assert not again.given_up
    worker.answer(again, worker.runner.run(again.call))

    assert worker.said() == ["2"]
    assert worker.core.idle


@pytest.mark.parametrize("fuse", ["all", None])
def test_G9_a_terminate_cancels_a_call_that_was_left_to_itself(fuse: Literal["all"] | None) -> None:
    model = Model()
    workflow, asks, said = chat(model, fuse, epoch_deadline=timedelta(seconds=1))
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(asks, Ask("ada", "slow 1"))
        harness.send(asks, Ask("bob", "slow 2"))
        assert [row.reason for row in harness.parked] == ["slow", "slow"]

        harness.runs["ada"].terminate("enough")

        assert model.cancelled == ["slow 1"]
        assert harness.runs["ada"].result == "enough"
        assert [row.key for row in harness.parked] == ["bob"]
        assert harness.sent(said) == []


@pytest.mark.parametrize("fuse", ["all", None])
def test_a_total_time_out_cancels_a_call_that_was_left_to_itself(fuse: Literal["all"] | None) -> None:
    model = Model()
    workflow, asks, said = chat(model, fuse, epoch_deadline=timedelta(seconds=1))
    workflow.timeout(total=MINUTE)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(asks, Ask("ada", "slow 1"))
        harness.advance(MINUTE)

        assert model.cancelled == ["slow 1"]
        assert harness.runs["ada"].status == "timed out"
        assert harness.parked == []
        assert harness.sent(said) == []


async def test_the_run_of_a_workflow_without_keys_ends_amid_its_call() -> None:
    model = Model()
    workflow = Workflow("chat", keyed=False)
    asks = workflow.source(KafkaSource("asks", Ask))
    node = workflow.node(model, name="model")
    asks.to(node)
    node.to(None)
    worker = Worker(workflow.compile())
    worker.send(Ask("ada", "slow 1"), Ask("bob", "2"))
    await until_async(lambda: model.calls, "it is so")

    worker.terminate("")
    await until_async(lambda: worker.run("").get("status") == b"terminated", "it is so")

    assert model.cancelled == ["slow 1"]
    assert worker.core.ended
