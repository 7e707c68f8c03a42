"""Nodes that get no events for now: paused ones, and such whose processes are away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import Complete, Context, Event, KafkaSink, KafkaSource, Node, Retry, Timer, Workflow
from headrace.testing import Harness
from headrace.workflows.commit import Answer, Head
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.parking import decode
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records

SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    large: bool = False


class Note(Node[Order, list[int], Order]):
    """Keeps the numbers that it has seen."""

    def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order:
        ctx.state.append(event.data.number)
        return event.data


class Flow:
    """Orders go to `check`, then to `book`; large ones to `audit`, too."""

    def __init__(self, *, fuse: Literal["all"] | None = None, **nodes: Any) -> None:
        workflow = Workflow("orders", partitions=1)
        self.orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        self.check = workflow.node(nodes.get("check", Note()), name="check")
        self.book = workflow.node(nodes.get("book", Note()), name="book", retry=Retry(5, on=(OSError,)))
        self.booked = workflow.sink(KafkaSink("booked", Order))
        self.orders.to(self.check)
        self.check.to(self.book)
        self.book.to(self.booked)
        self.harness = Harness(workflow, fuse=fuse)

    def send(self, customer: str, number: int) -> None:
        self.harness.send(self.orders, Order(customer, number))

    def state(self, customer: str, node: Any) -> Any:
        return self.harness.runs[customer].state(node)

    @property
    def standing(self) -> list[tuple[str, str, int]]:
        return [(row.key, row.reason, row.attempts) for row in self.harness.parked]


@pytest.fixture(params=["all", None])
def flow(request: pytest.FixtureRequest) -> Iterator[Flow]:
    flow = Flow(fuse=request.param)
    with flow.harness:
        yield flow


def test_events_stand_still_before_a_paused_node_and_go_on_in_order(flow: Flow) -> None:
    flow.send("ada", 1)

    flow.harness.pause(flow.book)
    for number in (2, 3):
        flow.send("ada", number)
    assert flow.state("ada", flow.check) == [1, 2, 3]  # what is before it is committed
    assert flow.state("ada", flow.book) == [1]
    assert flow.standing == [("ada", "paused", 0), ("ada", "paused", 0)]

    flow.harness.resume(flow.book)
    assert flow.standing == []
    assert flow.state("ada", flow.book) == [1, 2, 3]
    assert [order.number for order in flow.harness.sent(flow.booked)] == [1, 2, 3]


def test_a_pause_outlives_a_crash(flow: Flow) -> None:
    flow.harness.pause(flow.book)
    flow.harness.crash_at("after:commit")
    flow.send("ada", 1)
    flow.send("ada", 2)

    assert flow.harness.crashes == 1
    assert len(flow.standing) == 2
    flow.harness.resume(flow.book)
    assert flow.state("ada", flow.book) == [1, 2]


def test_what_waits_for_another_attempt_does_not_have_it_while_its_node_is_paused() -> None:
    attempts = []

    class Fails(Note):
        def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order:
            attempts.append(ctx.attempt)
            if ctx.attempt < 3:
                raise OSError("not now")
            return super().process(event, ctx)

    flow = Flow(book=Fails())
    with flow.harness as harness:
        flow.send("ada", 1)
        harness.pause(flow.book)
        harness.advance(timedelta(hours=1))
        assert attempts == [1]
        assert [(row.attempts, row.error) for row in harness.parked] == [(1, "OSError: not now")]

        harness.resume(flow.book)
        harness.advance(timedelta(hours=1))
        assert attempts == [1, 2, 3]
        assert flow.state("ada", flow.book) == [1]


def test_an_event_that_is_recalled_to_a_node_that_is_paused_by_then_keeps_its_attempts() -> None:
    attempts = []

    class Fails(Note):
        def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order:
            attempts.append(ctx.attempt)
            raise OSError("not now")

    flow = Flow(book=Fails())
    with flow.harness as harness:
        flow.send("ada", 1)
        core = harness._engine._tenures[0].core
        later = harness._engine.now + 10_000
        core.advance(later)  # it is recalled
        [recall] = core.instructions()
        core.closing.set((), {"book"}, later)
        harness._engine.paused.add("book")
        core.recalled(recall.tickets, harness._engine.store.parked(0, [row.field for row in recall.tickets]), later)  # type: ignore[union-attr]
        harness._settle()

        [row] = harness.parked
        assert (row.reason, row.attempts, row.error) == ("paused", 1, "OSError: not now")
        assert attempts == [1]
        harness.advance(20 * SECOND)
        assert attempts == [1]
        harness.resume(flow.book)
        assert attempts == [1, 2]


def test_events_for_a_process_that_is_away_stand_still_and_others_go_on() -> None:
    workflow = Workflow("orders", partitions=1)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    done = workflow.sink(KafkaSink("done", Order))

    class Sort(Node[Order, None, Order]):
        def process(self, event: Event[Order], ctx: Context) -> Order:
            return event.data

    audit, book = workflow.node(Note(), name="audit"), workflow.node(Note(), name="book")
    orders.to(audit, book)
    book.to(done)
    audit.to(None)
    with Harness(workflow) as harness:
        harness.take_away(audit)
        harness.send(orders, Order("ada", 1))
        harness.send(orders, Order("bob", 2))

        assert [order.number for order in harness.sent(done)] == [1, 2]
        assert [(row.key, row.reason) for row in harness.parked] == [("ada", "unavailable"), ("bob", "unavailable")]
        harness.bring_back(audit)
        assert [harness.runs[key].state(audit) for key in ("ada", "bob")] == [[1], [2]]
        assert harness.parked == []


def test_a_timer_of_a_paused_node_waits_for_it() -> None:
    class Bell(Node[Order, list[str], None]):
        def process(self, event: Event[Order], ctx: Context[list[str]]) -> None:
            ctx.set_timer("ring", after=SECOND)

        def on_timer(self, timer: Timer, ctx: Context[list[str]]) -> None:
            ctx.state.append(timer.name)

    workflow = Workflow("bells")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    bell = workflow.node(Bell(), name="bell")
    orders.to(bell)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))
        harness.pause(bell)
        harness.advance(2 * SECOND)
        assert [row.reason for row in harness.parked] == ["paused"]
        harness.resume(bell)
        assert harness.runs["ada"].state(bell) == ["ring"]


@pytest.mark.parametrize("fuse", ["all", None])
@pytest.mark.parametrize("how", ["pause", "take_away"])
def test_events_behind_the_one_before_a_closed_node_belong_to_the_next_run(fuse: Any, how: str) -> None:
    class Last(Node[Order, list[int], Order | Complete]):
        def process(self, event: Event[Order], ctx: Context[list[int]]) -> Order | Complete:
            ctx.state.append(event.data.number)
            return Complete(len(ctx.state)) if event.data.number == 1 else event.data

    workflow = Workflow("orders", partitions=1)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    last = workflow.node(Last(), name="last")
    done = workflow.sink(KafkaSink("done", Order))
    orders.to(last)
    last.to(done)
    with Harness(workflow, fuse=fuse) as harness:
        getattr(harness, how)(last)
        with harness.batch():
            for number in (1, 2, 3):
                harness.send(orders, Order("ada", number))
        assert [row.reason for row in harness.parked][1:] == ["behind", "behind"]
        {"pause": harness.resume, "take_away": harness.bring_back}[how](last)

        assert harness.runs["ada"].state(last) == [2, 3]
        assert [order.number for order in harness.sent(done)] == [2, 3]


def one_core() -> tuple[PartitionCore, Dispatch]:
    """A partition with a call under way, which is not answered."""
    workflow = Workflow("orders", partitions=1)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    check = workflow.node(Note(), name="check")
    orders.to(check)
    check.to(None)
    core = PartitionCore(workflow.compile(), 0, 1, Head("me", 0, {}, 0, {}))
    core.closing.set((), (), 1)
    value = msgspec.json.encode(Order("ada", 1))
    core.offer([Records(0, "orders/0", [0], [1], [None], [value], "1")], 1)
    core.loaded(["ada"], [{}], 1)
    [call] = [row for row in core.instructions() if isinstance(row, Dispatch)]
    return core, call


def test_a_call_that_is_given_up_is_committed_as_standing_still_with_its_deaths() -> None:
    core, dispatch = one_core()
    dispatch.call.falls = 2

    core.closing.set({(0, 0)}, (), 2)

    assert dispatch.given_up
    [save] = core.instructions()
    [parked] = map(decode, save.commit.parked.values())  # type: ignore[union-attr]
    assert (parked.reason, parked.falls, parked.attempts) == ("unavailable", 2, 0)
    assert core.parking.next_due() is None


def test_a_call_whose_process_has_ended_before_still_says_so_when_it_goes_on() -> None:
    core, dispatch = one_core()
    dispatch.call.falls = 2
    core.closing.set({(0, 0)}, (), 2)
    [save] = core.instructions()
    core.committed(Answer.APPLIED, 2)

    core.closing.set((), (), 3)
    [recall] = core.instructions()
    core.recalled(recall.tickets, list(save.commit.parked.values()), 3)  # type: ignore[union-attr]

    [again] = [row for row in core.instructions() if isinstance(row, Dispatch)]
    assert (again.call.falls, again.call.attempts) == (2, [0])
    assert again.call.number > dispatch.call.number


def test_nothing_is_sent_to_a_process_all_of_whose_events_are_for_a_paused_node() -> None:
    core, _ = one_core()
    core.closing.set({(0, 0)}, (), 2)
    core.instructions()
    core.committed(Answer.APPLIED, 2)
    core.closing.set((), {"check"}, 2)

    core.offer([Records(0, "orders/0", [1], [1], [None], [msgspec.json.encode(Order("bob", 2))], "2")], 2)
    core.loaded(["bob"], [{}], 2)

    assert not [row for row in core.instructions() if isinstance(row, Dispatch)]


def test_nothing_of_a_serial_run_begins_behind_an_event_before_a_paused_node() -> None:
    workflow = Workflow("orders", partitions=1, state=list[int])
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    check, book = workflow.node(Note(), name="check"), workflow.node(Note(), name="book")
    orders.to(check)
    check.to(book)
    book.to(None)
    with Harness(workflow, fuse="all") as harness:
        harness.pause(book)
        with harness.batch():
            for number in (1, 2):
                harness.send(orders, Order("ada", number))
        assert harness.runs["ada"].state(check) == [1]
        assert [row.reason for row in harness.parked] == ["paused", "behind"]
        harness.resume(book)
        assert harness.runs["ada"].state(book) == [1, 2]
