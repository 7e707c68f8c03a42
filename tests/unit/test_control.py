"""Runs that are ended, or forgotten, from outside; events that come after; in virtual time, with crashes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    Linear,
    MessageSource,
    Node,
    Retry,
    SourceClosed,
    Timeout,
    Timer,
    Workflow,
    WorkflowError,
)
from headrace.testing import Harness
from headrace.workflows.control import ControlEvent, encode
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.instructions import Load
from headrace.workflows.keyspace import CONTROL, partition_of
from headrace.workflows.late import LatePolicy
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save

SECOND = timedelta(seconds=1)
POINTS = ("before:commit", "after:commit", "after:load", "before:acquire")


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    fails: bool = False
    last: bool = False


class Total(Node[Order, list[int], Order | Complete]):
    """Counts; fails as long as an order says so; the last order ends the run."""

    def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order | Complete:
        if event.data.fails:
            raise OSError
        ctx.state.append(event.data.number)
        return Complete(len(ctx.state)) if event.data.last else event.data


class Plain(Node[Order, list[int], Order]):
    """The same without an end: runs of such workflows end from outside only."""

    def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order:
        if event.data.fails:
            raise OSError
        ctx.state.append(event.data.number)
        return event.data


class Flow:
    """A keyed workflow with a node that tries again, and another one behind it."""

    def __init__(
        self, node: Node[Order, list[int], Any], *, late: LatePolicy = "new-run", fuse: Any = None, **options: Any
    ) -> None:
        workflow = Workflow("orders", **options)
        self.orders: SourceHandle[Order] = workflow.source(KafkaSource("orders", Order, key="customer"), late=late)
        self.done: SinkHandle[Order] = workflow.sink(KafkaSink("done", Order))
        self.total = workflow.node(node, name="total", retry=Retry(50, backoff=Linear(SECOND)))
        after = workflow.node(pass_on, name="after")
        self.orders.to(self.total)
        self.total.to(after)
        after.to(self.done)
        self.harness = Harness(workflow, fuse=fuse)

    def send(self, number: int, key: str = "ada", **options: bool) -> None:
        self.harness.send(self.orders, Order(key, number, **options))

    @property
    def numbers(self) -> list[int]:
        """Of the orders that have left."""
        return [order.number for order in self.harness.sent(self.done, unique=True)]


def pass_on(event: Event[Order], ctx: Context) -> Order:
    del ctx
    return event.data


@pytest.fixture(params=[(Total, None), (Total, "all"), (Plain, None), (Plain, "all")], ids=str)
def flow(request: pytest.FixtureRequest) -> Iterator[Flow]:
    """Serial and pipelined, in units of their own and fused."""
    kind, fuse = request.param
    found = Flow(kind(), fuse=fuse)
    with found.harness:
        yield found


def test_a_run_that_is_ended_has_its_reason_and_what_comes_later_begins_another_one(flow: Flow) -> None:
    flow.send(1)

    flow.harness.runs["ada"].terminate("enough")

    ended = flow.harness.runs["ada"]
    assert (ended.status, ended.result, ended.number, ended.ended_by) == ("terminated", "enough", 1, None)
    assert ended.ended == flow.harness.now
    assert ended.state(flow.total) == [1]
    flow.send(2)
    assert flow.harness.runs["ada"].status == "running"
    assert flow.harness.runs["ada"].number == 2
    assert flow.harness.runs["ada"].state(flow.total) == [2]
    assert flow.numbers == [1, 2]


def test_other_runs_go_on(flow: Flow) -> None:
    flow.send(1)
    flow.send(2, key="bob")

    flow.harness.runs["ada"].terminate()
    flow.send(3, key="bob")

    assert flow.harness.runs["bob"].state(flow.total) == [2, 3]


def test_who_asks_again_does_not_end_the_run_that_took_the_key_over(flow: Flow) -> None:
    flow.send(1)
    first = flow.harness.runs["ada"]
    first.terminate("first")
    first.terminate("again")
    assert flow.harness.runs["ada"].result == "first"
    flow.send(2)

    first.terminate("late")

    assert flow.harness.runs["ada"].status == "running"


def test_what_stands_still_of_a_run_ends_with_it_and_leaves_nothing(flow: Flow) -> None:
    flow.send(1)
    flow.send(2, fails=True)
    assert [row.key for row in flow.harness.parked] == ["ada"]

    flow.harness.runs["ada"].terminate("stuck")

    assert flow.harness.parked == []
    assert (flow.harness.runs["ada"].status, flow.harness.runs["ada"].void) == ("terminated", 1)
    flow.harness.advance(timedelta(hours=1))
    assert flow.numbers == [1]
    assert flow.harness.dead_letters == []
    assert flow.harness.runs["ada"].status == "terminated"


def test_what_has_not_begun_behind_it_is_the_next_runs() -> None:
    flow = Flow(Total())
    with flow.harness:
        flow.send(1, fails=True)
        flow.send(2)
        flow.send(3)

        flow.harness.runs["ada"].terminate("stuck")

        assert flow.numbers == [2, 3]
        assert flow.harness.runs["ada"].state(flow.total) == [2, 3]
        assert flow.harness.runs["ada"].number == 2


def test_a_run_that_there_is_not_is_not_begun_by_being_ended(flow: Flow) -> None:
    ask(flow, ControlEvent("terminate", "nobody"), ControlEvent("delete", "nobody"))

    assert list(flow.harness.runs) == []
    flow.send(1, key="nobody")
    assert flow.harness.runs["nobody"].number == 1


def test_a_partition_that_takes_no_more_events_still_ends_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.workflows.partition.PartitionCore.parking_full", property(lambda core: core.parked))
    flow = Flow(Total())
    with flow.harness:
        flow.send(1, fails=True)
        flow.send(2)
        assert flow.numbers == []

        flow.harness.runs["ada"].terminate()

        assert flow.numbers == [2]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", [Total, Plain])
def test_wherever_it_dies_a_run_ends_once(point: str, kind: Any) -> None:
    for time in range(1, 4):
        flow = Flow(kind())
        with flow.harness as harness:
            flow.send(1)
            flow.send(2, fails=True)
            harness.crash_at(f"{point}:{time}")

            harness.runs["ada"].terminate("stuck")
            flow.send(3)
            harness.advance(timedelta(hours=1))

            assert flow.numbers == [1, 3]
            assert harness.runs["ada"].number == 2
            assert harness.runs["ada"].state(flow.total) == [3]
            assert harness.parked == []


def test_a_key_that_is_forgotten_is_nowhere(flow: Flow) -> None:
    flow.send(1)
    flow.send(2, fails=True)
    flow.send(3, fails=True)
    flow.send(4, key="bob")
    flow.harness.send_raw(flow.orders, b"no order", key="ada")
    flow.harness.send_raw(flow.orders, b"no order", key="bob")

    flow.harness.runs["ada"].delete()

    assert "ada" not in repr(flow.harness._engine.store._partitions)
    assert list(flow.harness.runs) == ["bob"]
    assert [letter.key for letter in flow.harness.dead_letters] == ["bob"]
    flow.harness.advance(timedelta(hours=1))
    assert flow.numbers == [1, 4]
    flow.send(5)
    assert flow.harness.runs["ada"].state(flow.total) == [5]


def test_an_ended_run_is_forgotten_as_well(flow: Flow) -> None:
    flow.send(1)
    ended = flow.harness.runs["ada"]
    ended.terminate("why")

    ended.delete()
    ended.delete()

    assert list(flow.harness.runs) == []


@pytest.mark.parametrize("point", POINTS)
def test_wherever_it_dies_a_key_is_forgotten(point: str) -> None:
    flow = Flow(Total())
    with flow.harness as harness:
        flow.send(1)
        flow.send(2, fails=True)
        flow.send(3)
        harness.crash_at(point)

        harness.runs["ada"].delete()

        assert harness.crashes <= 1
        assert list(harness.runs) == []
        assert harness.parked == []


class Reminded(Node[Order, list[int], Order]):
    """Sets a timer, which would leave a message."""

    def process(self, event: Event[Order], ctx: Context[list[int]]) -> None:
        ctx.state.append(event.data.number)
        ctx.set_timer("remind", after=timedelta(minutes=1))

    def on_timer(self, timer: Timer, ctx: Context[list[int]]) -> Order:
        del timer
        return Order("", len(ctx.state))


@pytest.mark.parametrize("ends", ["terminate", "delete"])
def test_nothing_falls_due_of_a_run_that_was_ended(ends: str) -> None:
    workflow = Workflow("reminders")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    reminders = workflow.sink(KafkaSink("reminders", Order))
    node = workflow.node(Reminded(), name="remind")
    orders.to(node)
    node.to(reminders)
    workflow.timeout(idle=timedelta(minutes=2)).to(Complete)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))
        harness.send(orders, Order("bob", 1))

        getattr(harness.runs["ada"], ends)()
        members = [member for held in harness._engine.store._partitions.values() for member in held.timers]
        harness.advance(timedelta(hours=1))

        assert [member for member in members if "ada" in member] == []
        assert len(members) == 2
        assert [message.key for message in harness.messages(reminders)] == ["bob"]
        assert ends == "delete" or harness.runs["ada"].status == "terminated"


def test_B31_a_run_that_waits_is_ended_with_a_reason_and_nobody_waits_any_more() -> None:
    workflow, orders, approvals, decided = waiting()
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))
        harness.send(approvals, Order("", 7), key="bob")
        assert harness.runs["ada"].waits_at == "approval"

        harness.runs["ada"].terminate("cancelled")

        ended = harness.runs["ada"]
        assert (ended.status, ended.result, ended.waits_at) == ("terminated", "cancelled", None)
        assert all(not held.timers for held in harness._engine.store._partitions.values())
        harness.send(approvals, Order("", 8), key="ada")
        harness.advance(timedelta(hours=1))
        assert harness.sent(decided) == []
        assert [letter.reason for letter in harness.dead_letters if letter.key == "ada"] == ["no-run"]


def test_messages_that_are_kept_are_forgotten_with_their_key() -> None:
    workflow, orders, approvals, decided = waiting()
    with Harness(workflow) as harness:
        for key in ("ada", "bob"):
            harness.send(orders, Order(key, 1, fails=True))
            harness.send(approvals, Order("", 7), key=key)
        assert sorted(row.key for row in harness.parked) == ["ada", "ada", "bob", "bob"]

        harness.runs["ada"].delete()

        assert "ada" not in repr(harness._engine.store._partitions)
        assert [row.key for row in harness.parked] == ["bob", "bob"]
        assert harness.sent(decided) == []


def waiting() -> Any:
    """Workflow, orders, approvals, decided: an order waits for an approval, for a minute."""
    workflow = Workflow("approving")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    approvals = workflow.source(MessageSource("approval", Order))
    decided = workflow.sink(KafkaSink("decided", Order))
    total = workflow.node(Plain(), name="total", retry=Retry(50, backoff=Linear(SECOND)))
    approval = workflow.wait(approvals, timeout=timedelta(minutes=1))
    orders.to(total)
    total.to(approval)
    approval.to(decided)
    approval.on(Timeout).to(Complete)
    return workflow, orders, approvals, decided


def test_a_policy_for_messages_that_come_too_late_is_refused() -> None:
    workflow = Workflow("approving")
    approvals = workflow.source(MessageSource("approval", Order), late="drop")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    approval = workflow.wait(approvals)
    orders.to(approval)
    approval.to(None)

    assert "late" in [problem.code for problem in workflow.check()]


def test_a_workflow_without_keys_ends_and_its_senders_are_told() -> None:
    workflow = Workflow("lines", keyed=False)
    lines = workflow.source(ChannelSource(str, capacity=10))
    seen: list[str] = []

    def keep(event: Event[str], ctx: Context) -> None:
        del ctx
        seen.append(event.data)

    lines.to(workflow.node(keep))
    with Harness(workflow) as harness:
        harness.send(lines, "one")

        harness.run.terminate({"by": "hand"})

        assert (harness.outcome, harness.run.result) == ("terminated", {"by": "hand"})
        with pytest.raises(SourceClosed):
            harness.send(lines, "two")
        harness.run.terminate("again")
        assert harness.run.result == {"by": "hand"}
        assert seen == ["one"]


def test_a_workflow_without_keys_ends_though_it_stands_still() -> None:
    workflow = Workflow("orders", keyed=False)
    orders = workflow.source(KafkaSource("orders", Order))
    total = workflow.node(Plain(), name="total", retry=Retry(50, backoff=Linear(SECOND)))
    orders.to(total)
    total.to(None)
    with Harness(workflow) as harness:
        harness.send(orders, Order("", 1, fails=True))
        harness.send(orders, Order("", 2, fails=True))

        harness.run.terminate()
        harness.advance(timedelta(hours=1))

        assert harness.outcome == "terminated"
        assert harness.parked == []


# --- events that come after the end


def test_late_events_are_dropped_where_the_source_says_so() -> None:
    for kind in (Total, Plain):
        flow = Flow(kind(), late="drop")
        with flow.harness as harness:
            flow.send(1)
            harness.runs["ada"].terminate()

            flow.send(2)
            flow.send(3, key="bob")

            assert flow.numbers == [1, 3]
            assert harness.runs["ada"].status == "terminated"
            assert harness.dead_letters == []


def test_how_many_late_events_were_dropped_is_told_with_their_commit() -> None:
    plan = Flow(Total(), late="drop").harness._plan
    world = MemoryStore()
    core = PartitionCore(plan, 0, 1, world.acquire(0, term=1, placement=1, worker="w"))
    orders = [msgspec.json.encode(order) for order in (Order("ada", 1, last=True), Order("ada", 2), Order("ada", 3))]
    records = Records(0, "orders/0", [0, 1, 2], [0] * 3, [None] * 3, list(orders), "3")
    core.offer([records], 0)
    runners = [UnitRunner(plan, unit.index) for unit in plan.units]
    saves: list[Save] = []
    while todo := core.instructions():
        for instruction in todo:
            if isinstance(instruction, Load):
                core.loaded(instruction.keys, world.load(0, instruction.keys), 0)
            elif isinstance(instruction, Dispatch):
                core.finished(runners[instruction.call.unit].run(instruction.call), 0)
            elif isinstance(instruction, Save):
                saves.append(instruction)

    assert [save.dropped for save in saves] == [2]


def test_late_events_are_dead_letters_that_begin_a_run_when_they_are_sent_back() -> None:
    flow = Flow(Total(), late="dead-letter")
    with flow.harness as harness:
        flow.send(1, last=True)

        flow.send(2)

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.key, letter.node) == ("late", "ada", None)
        assert harness.runs["ada"].status == "completed"
        harness.replay()
        assert harness.runs["ada"].state(flow.total) == [2]


@pytest.mark.parametrize("fuse", [None, "all"])
@pytest.mark.parametrize("late", ["drop", "dead-letter", "new-run"])
def test_late_events_are_late_however_they_were_batched(late: LatePolicy, fuse: Any) -> None:
    orders = [Order("ada", 1), Order("ada", 2, last=True), Order("bob", 3), Order("ada", 4), Order("ada", 5)]
    for together in (True, False):
        flow = Flow(Total(), late=late, fuse=fuse)
        with flow.harness as harness:
            if together:
                harness.send_all(flow.orders, orders)
            else:
                for order in orders:
                    harness.send(flow.orders, order)

            assert sorted(flow.numbers) == ([1, 3, 4, 5] if late == "new-run" else [1, 3])
            assert len(harness.dead_letters) == (2 if late == "dead-letter" else 0)


def test_what_a_source_sends_to_a_sink_by_itself_does_not_leave_of_a_late_event() -> None:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"), late="drop")
    copies = workflow.sink(KafkaSink("copies", Order))
    total = workflow.node(Total(), name="total")
    orders.to(copies, total)
    total.to(None)
    with Harness(workflow) as harness:
        harness.send_all(orders, [Order("ada", 1, last=True), Order("ada", 2)])
        harness.send(orders, Order("ada", 3))

        assert [order.number for order in harness.sent(copies)] == [1]


def test_an_event_for_several_nodes_is_late_once() -> None:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"), late="dead-letter")
    total, other = workflow.node(Total(), name="total"), workflow.node(Total(), name="other")
    orders.to(total, other)
    total.to(None)
    other.to(None)
    with Harness(workflow) as harness:
        harness.send_all(orders, [Order("ada", 1, last=True), Order("ada", 2)])

        assert [letter.reason for letter in harness.dead_letters] == ["late"]


def test_an_event_is_late_for_as_long_as_its_run_is_remembered() -> None:
    flow = Flow(Total(), late="drop", retention=timedelta(hours=1))
    with flow.harness as harness:
        flow.send(1, last=True)
        harness.advance(timedelta(minutes=59))
        flow.send(2)
        assert harness.runs["ada"].status == "completed"

        harness.advance(timedelta(minutes=1))

        assert list(harness.runs) == []
        flow.send(3)
        assert harness.runs["ada"].state(flow.total) == [3]


def test_an_event_after_a_key_was_forgotten_is_not_late() -> None:
    flow = Flow(Total(), late="drop")
    with flow.harness as harness:
        flow.send(1)
        harness.runs["ada"].delete()

        flow.send(2)

        assert harness.runs["ada"].state(flow.total) == [2]


def test_what_was_to_begin_behind_a_run_that_was_ended_is_late_as_well() -> None:
    flow = Flow(Total(), late="dead-letter")
    with flow.harness as harness:
        flow.send(1, fails=True)
        flow.send(2)

        harness.runs["ada"].terminate()

        assert [letter.reason for letter in harness.dead_letters] == ["late"]
        assert harness.parked == []


@pytest.mark.parametrize(
    "options", [{"retention": timedelta(0)}, {"retention": 3}, {"id_retention": timedelta(0)}, {"late": "ignore"}]
)
def test_policies_that_mean_nothing_are_refused(options: Any) -> None:
    with pytest.raises(WorkflowError, match=r"late=|retention="):
        Flow(Total(), **options)


def test_a_policy_for_late_events_is_refused_where_there_are_none() -> None:
    workflow = Workflow("lines", keyed=False)
    workflow.source(ChannelSource(str, capacity=10), late="drop").to(None)

    assert [problem.code for problem in workflow.check()] == ["late"]


def test_a_run_says_which_node_ended_it() -> None:
    flow = Flow(Total())
    with flow.harness as harness:
        flow.send(1)
        flow.send(2, last=True)

        ended = harness.runs["ada"]
        assert (ended.status, ended.result, ended.ended_by) == ("completed", 2, "total")


def ask(flow: Flow, *events: ControlEvent) -> None:
    """Ask something of runs that may not be there."""
    engine = flow.harness._engine
    for event in events:
        engine.store.append(partition_of(event.key, engine.partitions), CONTROL, encode(event))
    flow.harness.advance(timedelta(0))
