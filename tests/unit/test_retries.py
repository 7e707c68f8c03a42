"""Nodes that try again: back-off, order behind what stands still, dead letters with attempts; in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import msgspec
import pytest

from headrace import (
    Action,
    Complete,
    Context,
    Event,
    Exponential,
    KafkaSink,
    KafkaSource,
    Linear,
    Node,
    Retry,
    Workflow,
)
from headrace.testing import Harness
from headrace.workflows.actions import Reject
from headrace.workflows.handles import SourceHandle
from headrace.workflows.instructions import Limits

SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    fails: int = 0


class Total(msgspec.Struct):
    numbers: list[int] = []


class Flaky(Node[Order, Total, Order]):
    """Fails as often as the order says."""

    def __init__(self, error: Callable[[], Exception] = OSError) -> None:
        self.error = error
        self.tried: list[tuple[int, int]] = []

    def process(self, event: Event[Order], ctx: Context[Total]) -> Order:
        self.tried.append((event.data.number, ctx.attempt))
        ctx.state.numbers.append(event.data.number)
        if ctx.attempt <= event.data.fails:
            raise self.error()
        return event.data


def flow(node: Node[Order, Total, Order], retry: Retry) -> Harness:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    done = workflow.sink(KafkaSink("done", Order))
    flaky = workflow.node(node, name="flaky", retry=retry)
    orders.to(flaky)
    flaky.to(done)
    harness = Harness(workflow)
    harness.orders, harness.done, harness.flaky = orders, done, flaky  # type: ignore[attr-defined]
    return harness


def numbers(harness: Harness) -> list[int]:
    return [order.number for order in harness.sent(harness.done)]  # type: ignore[attr-defined]


def send(harness: Harness, *orders: Order) -> None:
    for order in orders:
        harness.send(harness.orders, order)  # type: ignore[attr-defined]


def test_a_failed_event_is_tried_again_when_its_wait_is_over_and_others_go_on() -> None:
    with flow(Flaky(), Retry(3, backoff=Linear(SECOND, SECOND), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=2), Order("bob", 2))
        assert numbers(harness) == [2]

        harness.advance(timedelta(milliseconds=999))
        assert numbers(harness) == [2]
        harness.advance(timedelta(milliseconds=1))
        assert numbers(harness) == [2]
        harness.advance(timedelta(seconds=2))

        assert numbers(harness) == [2, 1]
        assert harness.runs["ada"].state(harness.flaky) == Total([1])  # type: ignore[attr-defined]
        assert harness.dead_letters == []


def test_later_events_of_its_key_stand_behind_it_and_keep_their_order() -> None:
    node = Flaky()
    with flow(node, Retry(2, backoff=Linear(SECOND), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=1), Order("ada", 2), Order("ada", 3), Order("bob", 4))
        assert [row.id.rpartition("/")[2] for row in harness.parked] == ["0", "1", "2"]

        harness.advance(SECOND)

        assert numbers(harness) == [4, 1, 2, 3]
        assert node.tried == [(1, 1), (4, 1), (1, 2), (2, 1), (3, 1)]
        assert harness.parked == []


def test_A16_after_the_last_attempt_it_is_a_dead_letter_and_the_next_goes_on() -> None:
    with flow(Flaky(), Retry(3, backoff=Exponential(SECOND), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=9), Order("ada", 2))
        harness.advance(timedelta(seconds=3))

        [letter] = harness.dead_letters
        assert (letter.node, letter.reason, letter.attempts) == ("flaky", "error", 3)
        assert letter.traceback is not None and "OSError" in letter.traceback
        assert numbers(harness) == [2]
        assert harness.runs["ada"].state(harness.flaky) == Total([2])  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [lambda: KeyError("x"), lambda: TypeError("x"), lambda: Reject("no")])
def test_programming_errors_and_rejections_fail_at_once(error: Callable[[], Exception]) -> None:
    with flow(Flaky(error), Retry(5)) as harness:
        send(harness, Order("ada", 1, fails=1))

        assert [letter.attempts for letter in harness.dead_letters] == [1]


def test_a_programming_error_that_is_named_is_tried_again() -> None:
    with flow(Flaky(lambda: KeyError("x")), Retry(5, on=(KeyError,), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=1))
        harness.advance(SECOND)

        assert numbers(harness) == [1]


def test_errors_that_are_not_named_fail_at_once() -> None:
    with flow(Flaky(OSError), Retry(5, on=(ConnectionError,))) as harness:
        send(harness, Order("ada", 1, fails=1))

        assert [letter.reason for letter in harness.dead_letters] == ["error"]


@pytest.mark.parametrize("point", ["before:commit", "after:commit", "before:call", "after:call"])
def test_a_crash_loses_no_attempt_and_no_event(point: str) -> None:
    with flow(Flaky(), Retry(4, backoff=Linear(SECOND), jitter=0)) as harness:
        for at in ("now", "due"):
            if at == "now":
                harness.crash_at(point)
            send(harness, Order("ada", 1, fails=2), Order("ada", 2))
            if at == "due":
                harness.crash_at(point)
            harness.advance(timedelta(minutes=1))

        assert harness.crashes == 2
        assert list(dict.fromkeys(numbers(harness))) == [1, 2]
        assert harness.runs["ada"].state(harness.flaky) == Total([1, 2, 1, 2])  # type: ignore[attr-defined]
        assert harness.dead_letters == []


def test_what_stood_still_while_the_process_was_away_goes_on_when_it_is_back() -> None:
    with flow(Flaky(), Retry(2, backoff=Linear(SECOND), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=1), Order("ada", 2))
        harness.outage(timedelta(hours=1))

        assert numbers(harness) == [1, 2]


def test_a_retry_has_the_idempotency_key_of_the_first_attempt() -> None:
    keys: list[str] = []

    async def charge(event: Event[Order], ctx: Context) -> None:
        keys.append(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise ConnectionError("away")

    workflow = Workflow("charges")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    orders.to(workflow.node(charge, retry=Retry(2)))
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))
        harness.advance(timedelta(minutes=1))

    assert len(keys) == 2
    assert len(set(keys)) == 1


class Step(Action):
    ON = "on"


def test_a_run_that_may_end_waits_as_a_whole_and_goes_on_in_order() -> None:
    seen: list[tuple[str, int]] = []

    def first(event: Event[Order], ctx: Context) -> Step:
        seen.append(("first", event.data.number))
        return Step.ON

    def second(event: Event[Order], ctx: Context[Total]) -> Complete | None:
        if ctx.attempt <= event.data.fails:
            raise OSError("not now")
        seen.append(("second", event.data.number))
        return Complete(event.data.number) if event.data.number == 3 else None

    workflow = Workflow("runs")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    one, two = workflow.node(first), workflow.node(second, retry=Retry(3, backoff=Linear(SECOND), jitter=0))
    orders.to(one)
    one.on(Step.ON).to(two)
    with Harness(workflow) as harness:
        for order in (Order("ada", 1, fails=1), Order("ada", 2), Order("ada", 3), Order("ada", 4)):
            harness.send(orders, order)
        assert seen == [("first", 1)]
        harness.advance(SECOND)

        assert seen == [
            ("first", 1), ("second", 1), ("first", 2), ("second", 2),
            ("first", 3), ("second", 3), ("first", 4), ("second", 4),
        ]  # fmt: skip
        assert harness.runs["ada"].status == "running"  # the fourth began another run
        assert harness.parked == []


def test_what_stood_still_in_a_workflow_of_runs_that_end_goes_on_in_one_of_runs_that_do_not() -> None:
    passed: list[int] = []

    def ending(event: Event[Order], ctx: Context[Total]) -> Complete | None:
        raise OSError("not now")

    def lasting(event: Event[Order], ctx: Context[Total]) -> None:
        passed.append(event.data.number)

    def made(process: Callable[..., None]) -> tuple[Workflow, SourceHandle[Order]]:
        workflow = Workflow("runs")
        orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        orders.to(workflow.node(process, name="charge", retry=Retry(3, backoff=Linear(SECOND), jitter=0)))
        return workflow, orders

    before, orders = made(ending)  # type: ignore[arg-type]
    after, _ = made(lasting)
    with Harness(before) as harness:
        for number in (1, 2, 3):
            harness.send(orders, Order("ada", number))
        assert [row.attempts for row in harness.parked] == [1, 0, 0]

        with Harness(after, on=harness) as upgraded:
            upgraded.advance(SECOND)

            assert sorted(passed) == [1, 2, 3]
            assert upgraded.parked == []


def test_replayed_letters_stand_behind_what_stands_still() -> None:
    with flow(Flaky(lambda: Reject("no")), Retry(2, backoff=Linear(SECOND), jitter=0)) as harness:
        send(harness, Order("ada", 1, fails=1))
        assert len(harness.dead_letters) == 1
        harness.replay()

        assert len(harness.dead_letters) == 1  # attempt 1 again, which it rejects


@pytest.mark.parametrize("fuse", [None, "all"])
def test_a_letter_that_stands_behind_what_stands_still_goes_back_to_its_own_node(fuse: Literal["all"] | None) -> None:
    seen: list[int] = []
    tried: list[tuple[int, int]] = []

    def first(event: Event[Order], ctx: Context[None, Total]) -> Order:
        seen.append(event.data.number)
        return Order(event.data.customer, event.data.number * 10, event.data.fails)

    def second(event: Event[Order], ctx: Context[None, Total]) -> Order:
        tried.append((event.data.number, ctx.attempt))
        if event.data.number == 10 and len(tried) == 1:
            raise Reject("no")
        if ctx.attempt <= event.data.fails:
            raise OSError("not now")
        return event.data

    workflow = Workflow("orders", state=Total)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    done = workflow.sink(KafkaSink("done", Order))
    begins = workflow.node(first)
    ends = workflow.node(second, retry=Retry(3, backoff=Linear(SECOND), jitter=0))
    orders.to(begins)
    begins.to(ends)
    ends.to(done)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(orders, Order("ada", 1))
        (letter,) = harness.dead_letters
        harness.send(orders, Order("ada", 2, fails=1))
        assert harness.replay() == 1
        assert [row.id for row in harness.parked][1:] == [letter.id]

        harness.advance(SECOND)

        assert [message.data.number for message in harness.messages(done)] == [20, 10]
        assert seen == [1, 2], "what came before its node is not done again"
        assert tried == [(10, 1), (20, 1), (20, 2), (10, 1)]


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        (Retry(0), "attempts=0"),
        (Retry(2, jitter=1.5), "jitter=1.5"),
        (Retry(2, on=()), "on=()"),
        (Retry(2, backoff=Linear(timedelta(seconds=-1))), "waits -1 day"),
        (Retry(2, backoff=Exponential(timedelta(days=4000), timedelta(days=4000))), "waits 4000 days"),
    ],
)
def test_absurd_policies_are_refused_with_a_cure(retry: Retry, message: str) -> None:
    from headrace import WorkflowError  # noqa: PLC0415

    with pytest.raises(WorkflowError, match="retry=") as refused:
        flow(Flaky(), retry)
    assert message in str(refused.value)


def test_while_a_backlog_is_worked_off_short_waits_pass_in_memory_and_long_ones_durably(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.testing.engine.LIMITS", Limits(soon=250, soon_from=1, soon_tick=1))
    node, step = Flaky(), timedelta(milliseconds=50)
    with flow(node, Retry(4, backoff=Linear(step, step), jitter=0)) as harness:
        orders = [Order("ada", 1, fails=3), Order("ada", 2), Order("bob", 3, fails=2), Order("bob", 4)]
        harness.send_all(harness.orders, orders)  # type: ignore[attr-defined]
        assert (harness.parked, numbers(harness)) == ([], []), "their epoch is not done"

        harness.advance(timedelta(milliseconds=149))
        assert (harness.parked, numbers(harness)) == ([], [])
        harness.advance(timedelta(milliseconds=1))

        assert numbers(harness) == [3, 4]
        assert [(row.key, row.attempts) for row in harness.parked] == [("ada", 3), ("ada", 0)]
        harness.advance(timedelta(milliseconds=150))
        assert numbers(harness) == [3, 4, 1, 2]
        assert [row for row in node.tried if row[0] == 1] == [(1, 1), (1, 2), (1, 3), (1, 4)]
        assert [row for row in node.tried if row[0] > 1] == [(3, 1), (3, 2), (3, 3), (4, 1), (2, 1)]


def test_F08_a_key_with_nine_tenths_of_the_traffic_that_stands_still_holds_up_no_other() -> None:
    """How long others take besides is measured: `benchmarks/patience.py`."""
    orders = [
        Order("hot" if number % 10 else f"cold-{number % 70}", number, fails=int(number == 1)) for number in range(900)
    ]
    hot = [order.number for order in orders if order.customer == "hot"]
    with flow(Flaky(), Retry(2, on=(OSError,), backoff=Linear(60 * SECOND))) as harness:
        harness.send_all(harness.orders, orders)  # type: ignore[attr-defined]

        assert sorted(numbers(harness)) == [order.number for order in orders if order.customer != "hot"]
        assert [row.key for row in harness.parked] == ["hot"] * len(hot)

        harness.advance(60 * SECOND)
        assert [number for number in numbers(harness) if number % 10] == hot
        assert harness.parked == []
