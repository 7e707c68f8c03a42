"""A workflow as a node of another one: its runs begin and end inside a run, and their outcomes go on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import (
    Action,
    ChannelSource,
    Complete,
    Context,
    Event,
    Failure,
    Joined,
    KafkaSink,
    KafkaSource,
    Linear,
    MessageSource,
    Node,
    Reject,
    Retry,
    Terminate,
    Timeout,
    Timer,
    Workflow,
)
from headrace.testing import Harness, HarnessError
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.runs import SHARED_FIELD
from headrace.workflows.state_review import StatesLost

SECOND = timedelta(seconds=1)
FUSE: list[Literal["all"] | None] = [None, "all"]


class Order(msgspec.Struct, frozen=True):
    customer: str
    cents: int


class Receipt(msgspec.Struct, frozen=True):
    text: str


class Basket(msgspec.Struct):
    cents: list[int] = []


class Kept(msgspec.Struct):
    count: int = 0


class Size(Action):
    SMALL = "small"
    LARGE = "large"


class Weigh(Node[Order, Kept, Size]):
    """Counts, and puts each order into the basket that the nodes of an inner run share."""

    def process(self, event: Event[Order], ctx: Context[Kept, Basket]) -> Size:
        ctx.state.count += 1
        ctx.run.state.cents.append(event.data.cents)
        return Size.LARGE if event.data.cents > 100 else Size.SMALL


def charge(event: Event[Order], ctx: Context[Kept, Basket]) -> Complete | Receipt:
    ctx.state.count += 1
    if event.data.cents < 0:
        ctx.run.state.cents.append(0)
        raise ValueError("below zero")
    if len(ctx.run.state.cents) == 3:
        return Complete(ctx.run.state.cents)
    return Receipt(f"noted {event.data.cents} in {ctx.run.id}")


def refuse(event: Event[Order], ctx: Context) -> Terminate:
    return Terminate(f"{event.data.cents} is too much")


def paying(name: str = "payments") -> Workflow:
    """Completes with every third order; ends at a large one; notes the others."""
    workflow = Workflow(name, state=Basket)
    orders = workflow.source(ChannelSource(Order, capacity=10, key="customer"))
    notes = workflow.sink(KafkaSink("notes", Receipt))
    weighing = workflow.node(Weigh())
    charging = workflow.node(charge)
    refusing = workflow.node(refuse)
    orders.to(weighing)
    weighing.on(Size.SMALL).to(charging)
    weighing.on(Size.LARGE).to(refusing)
    charging.to(notes)
    return workflow


def paid(event: Event[Complete], ctx: Context) -> Receipt:
    assert ctx.run.state is None, "the state that the inner run's nodes share is not seen outside"
    return Receipt(f"paid {event.data.result}")


def unpaid(event: Event[Failure], ctx: Context) -> Receipt:
    return Receipt(f"not paid: {event.data.error}")


class Shop:
    """An outer workflow with the payments as its node `pay`."""

    def __init__(self, inner: Workflow, *, failure: bool = True) -> None:
        self.workflow = Workflow("shop")
        self.orders: SourceHandle[Order] = self.workflow.source(KafkaSource("orders", Order, key="customer"))
        self.receipts: SinkHandle[Receipt] = self.workflow.sink(KafkaSink("receipts", Receipt))
        self.pay = self.workflow.node(inner, name="pay")
        done = self.workflow.node(paid)
        self.orders.to(self.pay)
        self.pay.on(Complete).to(done)
        done.to(self.receipts)
        if failure:
            failed = self.workflow.node(unpaid)
            self.pay.on(Failure).to(failed)
            failed.to(self.receipts)

    def texts(self, harness: Harness) -> list[str]:
        return [receipt.text for receipt in harness.sent(self.receipts, unique=True)]


def send(harness: Harness, shop: Shop, *cents: int, key: str = "ada") -> None:
    for each in cents:
        harness.send(shop.orders, Order(key, each))


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_a_nested_workflow_returns_complete(fuse: Literal["all"] | None) -> None:
    shop = Shop(paying())

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1, 2, 3, 4)
        send(harness, shop, 9, key="bob")

        assert shop.texts(harness) == ["paid [1, 2, 3]"]
        assert harness.runs["ada"].status == "running", "an inner Complete does not end the outer run"
        assert harness.runs["ada"].state("pay/charge") == Kept(1), "the second inner run began anew"
        assert harness.runs["ada"].state(shop.pay) == Basket([4]), "with the state that its nodes share"
        assert harness.runs["bob"].state(shop.pay) == Basket([9])
        notes = [receipt.text for receipt in harness.sent("pay/notes")]
        assert sorted(notes) == [
            "noted 1 in shop/ada",
            "noted 2 in shop/ada",
            "noted 4 in shop/ada",
            "noted 9 in shop/bob",
        ]
        assert not harness.dead_letters


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_a_nested_workflow_returns_the_error_of_the_inner_one(fuse: Literal["all"] | None) -> None:
    shop = Shop(paying())

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1, 500, -1, 5)

        assert shop.texts(harness) == ["not paid: 500 is too much", "not paid: ValueError: below zero"]
        assert harness.runs["ada"].state(shop.pay) == Basket([5]), "both ended an inner run"
        assert not harness.dead_letters, "a failure that has a route is handled"


@pytest.mark.parametrize("fuse", FUSE)
def test_without_a_route_for_failures_what_fails_inside_is_a_dead_letter(fuse: Literal["all"] | None) -> None:
    inner = Workflow("payments", state=Basket)
    source = inner.source(ChannelSource(Order, capacity=10, key="customer"))
    charging = inner.node(charge)
    source.to(charging)
    charging.to(None)
    shop = Shop(inner, failure=False)

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1, -1)

        [letter] = harness.dead_letters
        assert (letter.node, letter.reason, letter.error) == ("pay/charge", "error", "ValueError: below zero")
        assert harness.runs["ada"].state("pay/charge") == Kept(1), "the inner run goes on, as it was before"
        assert harness.runs["ada"].state(shop.pay) == Basket([]), "the state that its nodes share, too"


def deep(names: list[str], ends: Any) -> Workflow:
    """Workflows in one another: the innermost has one node, each other one gives its outcomes on as its own."""
    workflow = Workflow(names[0])
    source = workflow.source(ChannelSource(Order, capacity=10, key="customer"))
    if len(names) == 1:
        node: Any = workflow.node(ends)
        source.to(node)
        return workflow
    inner = workflow.node(deep(names[1:], ends), name=names[1])
    source.to(inner)
    unwrap = workflow.node(unwrapped)
    inner.on(Complete).to(unwrap)
    inner.on(Failure).to(Terminate)
    return workflow


def unwrapped(event: Event[Complete], ctx: Context) -> Complete:
    return Complete([event.data.result])


def small_only(event: Event[Order], ctx: Context[Kept]) -> Complete | Terminate | None:
    ctx.state.count += 1
    if event.data.cents == 0:
        return None
    return Complete(event.data.cents) if event.data.cents < 100 else Terminate("too much")


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_nesting_works_three_deep(fuse: Literal["all"] | None) -> None:
    shop = Shop(deep(["a", "b", "c"], small_only))

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 0, 0)
        assert harness.runs["ada"].state("pay/b/c/small_only") == Kept(2)

        send(harness, shop, 1, 200)
        assert shop.texts(harness) == ["paid [[1]]", "not paid: too much"]
        assert harness.runs["ada"].state("pay/b/c/small_only") == Kept(0)


@pytest.mark.parametrize("fuse", FUSE)
def test_what_an_inner_run_still_had_in_hand_is_dropped(fuse: Literal["all"] | None) -> None:
    def three(event: Event[Order], ctx: Context) -> list[Receipt | Complete]:
        return [Receipt("before"), Complete("now"), Receipt("after")]

    inner = Workflow("inner")
    source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
    node, notes = inner.node(three), inner.sink(KafkaSink("notes", Receipt))
    source.to(node)
    node.to(notes)
    outer = Workflow("outer")
    orders = outer.source(KafkaSource("orders", Order, key="customer"))
    pay, kept = outer.node(inner), outer.sink(KafkaSink("kept", Order))
    results = outer.sink(KafkaSink("results", Complete))
    orders.to(pay, kept)
    pay.on(Complete).to(results)

    with Harness(outer, fuse=fuse) as harness:
        harness.send(orders, Order("ada", 1))

        assert harness.sent("inner/notes") == [Receipt("before")]
        assert harness.sent(results) == [Complete("now")]
        assert harness.sent(kept) == [Order("ada", 1)], "what the outer run has in hand is not the inner run's"


def test_two_nodes_of_the_same_workflow_share_nothing() -> None:
    inner = paying()
    outer = Workflow("outer")
    orders = outer.source(KafkaSource("orders", Order, key="customer"))
    pay, pay2 = outer.node(inner, name="pay"), outer.node(inner, name="pay2")
    orders.to(pay)
    pay.on(Complete).to(None)
    pay.on(Failure).to(None)
    again = outer.node(order_again)
    orders2 = outer.source(KafkaSource("more", Receipt, key="text"))
    orders2.to(again)
    again.to(pay2)
    pay2.on(Complete, Failure).to(None)

    with Harness(outer) as harness:
        harness.send(orders, Order("ada", 1))
        harness.send(orders2, Receipt("ada"))
        harness.send(orders, Order("ada", 2))

        assert harness.runs["ada"].state(pay) == Basket([1, 2])
        assert harness.runs["ada"].state(pay2) == Basket([7])
        with pytest.raises(HarnessError, match="2 times: name one, 'pay/charge' or 'pay2/charge'"):
            harness.runs["ada"].state(inner_node(inner, "charge"))


def order_again(event: Event[Receipt], ctx: Context) -> Order:
    return Order(event.data.text, 7)


def inner_node(workflow: Workflow, name: str) -> Any:
    from headrace.workflows.handles import NodeHandle  # noqa: PLC0415

    item = next(node for node in workflow._graph.nodes if node.name == name)
    return NodeHandle(workflow._graph, item)


# Retries inside.


class Flaky(Node[Order, Kept, Complete | None]):
    """Fails twice with every order; completes with those of 7 cents."""

    def process(self, event: Event[Order], ctx: Context[Kept, Any]) -> Complete | None:
        ctx.state.count += 1
        if ctx.attempt <= event.data.cents % 10:
            raise OSError("not now")
        return Complete(event.data.cents) if event.data.cents < 10 else None


def retrying(*, times: int = 9, beside: Any = None) -> Workflow:
    inner = Workflow("inner")
    source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
    flaky = inner.node(Flaky(), name="flaky", retry=Retry(times, backoff=Linear(SECOND)))
    source.to(*([flaky] if beside is None else [flaky, inner.node(beside)]))
    return inner


@pytest.mark.parametrize("fuse", FUSE)
def test_a_node_inside_tries_again_and_its_run_stands_behind_it(fuse: Literal["all"] | None) -> None:
    shop = Shop(retrying(), failure=True)

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 2, 1)
        assert [(parked.key, parked.reason) for parked in harness.parked] == [("ada", "retry"), ("ada", "behind")]
        assert shop.texts(harness) == []

        harness.advance(5 * SECOND)
        assert shop.texts(harness) == ["paid 2", "paid 1"]
        assert not harness.parked


@pytest.mark.parametrize("fuse", FUSE)
def test_a_node_inside_that_fails_for_good_after_retries_ends_the_inner_run(fuse: Literal["all"] | None) -> None:
    shop = Shop(retrying(times=3), failure=True)

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 9)
        harness.advance(5 * SECOND)

        assert shop.texts(harness) == ["not paid: OSError: not now"]
        assert harness.runs["ada"].state("pay/flaky") == Kept(0)
        assert not harness.dead_letters


def complete_beside(event: Event[Order], ctx: Context) -> Complete | None:
    return Complete("beside") if event.data.cents == 15 else None


@pytest.mark.parametrize("fuse", FUSE)
def test_what_stands_still_of_an_inner_run_ends_with_it(fuse: Literal["all"] | None) -> None:
    shop = Shop(retrying(beside=complete_beside), failure=True)

    with Harness(shop.workflow, fuse=fuse) as harness:
        with harness.batch():
            send(harness, shop, 15, 1)
        assert shop.texts(harness) == ["paid beside"], "the next order stands still by itself, not behind it"
        assert [parked.reason for parked in harness.parked] == ["retry"]

        harness.advance(9 * SECOND)
        assert shop.texts(harness) == ["paid beside", "paid 1"]
        assert not harness.parked
        assert harness.runs["ada"].state("pay/flaky") == Kept(0)


def twice(event: Event[Order], ctx: Context) -> list[Order]:
    return [Order(event.data.customer, 1), Order(event.data.customer, 13), Order(event.data.customer, 12)]


@pytest.mark.parametrize("fuse", FUSE)
def test_events_that_stand_still_end_with_an_inner_run_that_another_one_of_them_completes(
    fuse: Literal["all"] | None,
) -> None:
    inner = Workflow("inner")
    source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
    doubling = inner.node(twice)
    flaky = inner.node(Flaky(), name="flaky", retry=Retry(9, backoff=Linear(SECOND)))
    source.to(doubling)
    doubling.to(flaky)
    shop = Shop(inner)

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 0)
        assert [parked.reason for parked in harness.parked] == ["retry", "behind", "behind"]

        harness.advance(30 * SECOND)
        assert shop.texts(harness) == ["paid 1"]
        assert not harness.parked
        assert harness.runs["ada"].state("pay/flaky") == Kept(0), "the other two were never tried"


# Time-outs and timers inside.


def late(event: Event[Timeout], ctx: Context) -> Receipt:
    return Receipt(f"late after {event.data.after}")


def timed(inner: Workflow, after: timedelta = 10 * SECOND) -> Shop:
    shop = Shop(deep(["unused"], weighed), failure=False)
    shop.workflow = Workflow("shop")
    shop.orders = shop.workflow.source(KafkaSource("orders", Order, key="customer"))
    shop.receipts = shop.workflow.sink(KafkaSink("receipts", Receipt))
    shop.pay = shop.workflow.node(inner, name="pay", timeout=after)
    done, overdue = shop.workflow.node(paid), shop.workflow.node(late)
    shop.orders.to(shop.pay)
    shop.pay.on(Complete).to(done)
    shop.pay.on(Failure).to(None)
    shop.pay.on(Timeout).to(overdue)
    done.to(shop.receipts)
    overdue.to(shop.receipts)
    return shop


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_a_nested_workflow_returns_timeout_and_what_left_before_is_kept(
    fuse: Literal["all"] | None,
) -> None:
    shop = timed(paying())

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1)
        harness.advance(6 * SECOND)
        send(harness, shop, 2)
        harness.advance(6 * SECOND)
        assert shop.texts(harness) == ["late after 0:00:10"], "from the first event of the inner run on"
        assert len(harness.sent("pay/notes")) == 2
        assert harness.runs["ada"].status == "running"
        assert harness.runs["ada"].state("pay/charge") == Kept(0)

        send(harness, shop, 3)
        harness.advance(6 * SECOND)
        assert harness.runs["ada"].state(shop.pay) == Basket([3]), (
            "no event is lost by it: a later one is the next run's"
        )
        send(harness, shop, 4, 5)
        assert shop.texts(harness) == ["late after 0:00:10", "paid [3, 4, 5]"]
        harness.advance(60 * SECOND)
        assert len(shop.texts(harness)) == 2, "an inner run that has ended does not time out"


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_one_event_driven_node_as_a_step_returns_its_outcome_or_its_timeout(
    fuse: Literal["all"] | None,
) -> None:
    """A step that takes any number of events until it has what it wants."""
    shop = timed(deep(["step"], small_only))

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 0, 0, 7)
        send(harness, shop, 0)
        harness.advance(11 * SECOND)
        send(harness, shop, 8)

        assert shop.texts(harness) == ["paid 7", "late after 0:00:10", "paid 8"]


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_timeout_of_an_inner_run_comes_once_whatever_crashes(point: str, fuse: Literal["all"] | None) -> None:
    shop = timed(paying())

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1)
        harness.crash_at(point)
        harness.advance(11 * SECOND)
        send(harness, shop, 2)

        assert shop.texts(harness) == ["late after 0:00:10"]
        assert harness.runs["ada"].state(shop.pay) == Basket([2])


class Remind(Node[Order, Kept, Receipt]):
    def process(self, event: Event[Order], ctx: Context[Kept, Any]) -> Complete | None:
        ctx.set_timer("again", after=5 * SECOND)
        return Complete("at once") if event.data.cents == 7 else None

    def on_timer(self, timer: Timer, ctx: Context[Kept, Any]) -> Complete:
        ctx.state.count += 1
        return Complete(f"{timer.name} {ctx.state.count}")


@pytest.mark.parametrize("fuse", FUSE)
def test_timers_of_nodes_inside_end_with_the_inner_run(fuse: Literal["all"] | None) -> None:
    shop = timed(deep(["inner"], Remind()))

    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, 1)
        harness.advance(6 * SECOND)
        assert shop.texts(harness) == ["paid again 1"]

        send(harness, shop, 1, 7)
        harness.advance(60 * SECOND)
        assert shop.texts(harness) == ["paid again 1", "paid at once"]


@pytest.mark.parametrize("fuse", FUSE)
def test_an_outcome_waits_for_a_message_and_goes_on(fuse: Literal["all"] | None) -> None:
    outer = Workflow("outer")
    orders = outer.source(KafkaSource("orders", Order, key="customer"))
    messages = outer.source(MessageSource("confirmed", Receipt))
    pay, results = outer.node(deep(["a"], small_only), name="pay"), outer.sink(KafkaSink("results", Receipt))
    confirmed = outer.wait(messages)
    orders.to(pay)
    pay.on(Complete).to(confirmed)
    pay.on(Failure).to(None)
    confirmed.to(results)

    with Harness(outer, fuse=fuse) as harness:
        harness.send(orders, Order("ada", 7))
        assert harness.sent(results) == []
        harness.send(messages, Receipt("yes"), key="ada")
        assert harness.sent(results) == [Receipt("yes")]


# Crashes.

CENTS = (1, 2, 300, 4, -5, 6, 7, 8)


def expected(fuse: Literal["all"] | None) -> tuple[list[str], Any]:
    shop = Shop(paying())
    with Harness(shop.workflow, fuse=fuse) as harness:
        send(harness, shop, *CENTS)
        return shop.texts(harness), harness.runs["ada"].state(shop.pay)


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_inner_runs_survive_a_crash_at_every_point(point: str, fuse: Literal["all"] | None) -> None:
    wanted = expected(fuse)
    shop = Shop(paying())

    with Harness(shop.workflow, fuse=fuse) as harness:
        for index, cents in enumerate(CENTS):
            if index in (2, 4, 6):
                harness.crash_at(point)
            send(harness, shop, cents)

        assert (shop.texts(harness), harness.runs["ada"].state(shop.pay)) == wanted


# Fakes, versions, names.


def test_a_workflow_that_is_a_node_is_replaced_as_a_whole_or_in_part() -> None:
    def always(event: Event[Order], ctx: Context) -> Complete:
        return Complete("fake")

    inner = paying()
    for replaced in ("pay", "charge"):
        shop = Shop(inner)
        part = shop.pay if replaced == "pay" else inner_node(inner, "charge")
        with Harness(shop.workflow, replace={part: always}) as harness:
            send(harness, shop, 1)
            assert shop.texts(harness) == ["paid fake"]


def test_a_renamed_workflow_keeps_the_states_of_all_nodes_inside() -> None:
    def version(name: str, former: str | None, inside: str, inside_former: str | None) -> Shop:
        shop = Shop(paying())
        shop.workflow = Workflow("shop")
        shop.orders = shop.workflow.source(KafkaSource("orders", Order, key="customer"))
        inner = Workflow("payments", state=Basket)
        source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
        node = inner.node(charge, name=inside, renamed_from=inside_former)
        source.to(node)
        node.to(None)
        shop.pay = shop.workflow.node(inner, name=name, renamed_from=former)
        shop.orders.to(shop.pay)
        shop.pay.on(Complete).to(None)
        return shop

    first = version("pay", None, "charge", None)
    with Harness(first.workflow) as harness:
        send(harness, first, 1)
        second = version("checkout", "pay", "bill", "charge")
        with Harness(second.workflow, on=harness) as after:
            assert after.runs["ada"].state("checkout/bill") == Kept(1)
            send(after, second, 2)
            assert after.runs["ada"].state("checkout/bill") == Kept(2)
        third = version("checkout", None, "charge", None)
        with pytest.raises(StatesLost, match="pay/charge had states, in 1 run, and is gone"):
            Harness(third.workflow, on=harness)


def test_the_states_of_an_inner_run_that_has_ended_are_no_orphans() -> None:
    shop = Shop(deep(["a", "b"], small_only))
    with Harness(shop.workflow) as harness:
        send(harness, shop, 0, 1)
        plain = Shop(deep(["a"], small_only))
        with Harness(plain.workflow, on=harness) as after:
            assert after.runs["ada"].status == "running"


def test_the_outer_runs_own_state_is_not_seen_inside() -> None:
    def look(event: Event[Order], ctx: Context) -> Complete:
        return Complete(str(ctx.run.state))

    inner = Workflow("inner")
    source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
    source.to(inner.node(look))
    outer = Workflow("outer", state=Kept)
    orders = outer.source(KafkaSource("orders", Order, key="customer"))
    node, results = outer.node(inner), outer.sink(KafkaSink("results", Complete))
    orders.to(node)
    node.on(Complete).to(results)

    with Harness(outer) as harness:
        harness.send(orders, Order("ada", 1))
        assert harness.sent(results) == [Complete("None")]
        assert SHARED_FIELD not in harness.runs["ada"]._fields or harness.runs["ada"].shared == Kept()


@pytest.mark.parametrize("fuse", FUSE)
def test_an_inner_end_that_is_routed_to_the_outer_end_ends_the_run(fuse: Literal["all"] | None) -> None:
    outer = Workflow("outer")
    orders = outer.source(KafkaSource("orders", Order, key="customer"))
    pay = outer.node(deep(["a"], small_only), name="pay")
    orders.to(pay)
    pay.on(Complete).to(Complete)
    pay.on(Failure).to(Terminate)

    with Harness(outer, fuse=fuse) as harness:
        harness.send(orders, Order("ada", 1))
        harness.send(orders, Order("bob", 100))
        assert (harness.runs["ada"].status, harness.runs["ada"].result) == ("completed", 1)
        assert (harness.runs["bob"].status, harness.runs["bob"].result) == ("terminated", "too much")


# Mistakes.


def only(workflow: Workflow) -> str:
    [problem] = workflow.check()
    assert problem.where.startswith("tests/unit/test_composition.py:")
    return str(problem).partition("  ")[2]


def test_mistakes_inside_are_named_with_the_way_to_them() -> None:
    inner = Workflow("inner")
    source = inner.source(ChannelSource(Order, capacity=1, key="customer"))
    weighing = inner.node(weigh_only)
    source.to(weighing)
    weighing.on(Size.SMALL).to(None)
    middle = Workflow("middle")
    middle.source(ChannelSource(Order, capacity=1, key="customer")).to(middle.node(inner, name="scale"))
    outer = Workflow("outer")
    outer.source(KafkaSource("orders", Order, key="customer")).to(outer.node(middle), outer.node(middle, name="again"))

    assert only(outer) == (
        "middle/scale/weigh_only: action Size.LARGE has no route. Add: weigh_only.on(Size.LARGE).to(...)"
    )


def weigh_only(event: Event[Order], ctx: Context) -> Size:
    return Size.SMALL


def shop_of(inner: Workflow) -> tuple[Workflow, Any]:
    outer = Workflow("outer")
    pay = outer.node(inner, name="pay")
    outer.source(KafkaSource("orders", Order, key="customer")).to(pay)
    return outer, pay


def test_outcomes_without_routes_and_routes_without_outcomes() -> None:
    outer, pay = shop_of(deep(["a"], small_only))
    messages = [str(problem).partition("  ")[2] for problem in outer.check()]
    assert messages == [
        "pay: the workflow 'a' may end by Complete; that has no route."
        " Add: pay.on(Complete).to(...), or .to(None) to drop it",
        "pay: the workflow 'a' may end by Terminate, which arrives as Failure; that has no route."
        " Add: pay.on(Failure).to(...), or .to(None) to drop it",
    ]

    pay.on(Complete).to(None)
    pay.on(Failure).to(None)
    pay.to(None)
    assert only(outer).startswith("pay: `.to(...)` takes data that a node returns, and a workflow has outcomes only")

    outer, pay = shop_of(deep(["a"], weighed))
    pay.on(Complete).to(None)
    assert only(outer).startswith("pay: nothing in the workflow 'a' returns Complete, or is routed to it")


def weighed(event: Event[Order], ctx: Context) -> None: ...


def test_a_workflow_with_two_sources_is_no_node() -> None:
    inner = deep(["a"], weighed)
    node = inner_node(inner, "weighed")
    inner.source(ChannelSource(Order, capacity=1, key="customer", name="more")).to(node)
    outer, _ = shop_of(inner)

    assert "has 2 sources" in only(outer)
    assert "Give it one source, whose type is that of the events that it takes; for one that it only waits" in only(
        outer
    )


def test_a_workflow_takes_the_type_of_its_source() -> None:
    outer = Workflow("outer")
    texts = outer.source(KafkaSource("texts", Receipt, key="text"))
    texts.to(outer.node(deep(["a"], weighed)))

    assert only(outer).startswith("texts: gives Receipt, but a takes Order")


def test_what_takes_an_outcome_takes_its_class() -> None:
    outer, pay = shop_of(deep(["a"], small_only))
    other = outer.node(unpaid)
    pay.on(Complete).to(other)
    pay.on(Failure).to(None)
    other.to(None)

    assert "gives Complete, but unpaid takes Failure" in only(outer)


def test_a_workflow_is_not_inside_itself() -> None:
    outer, middle = Workflow("outer"), Workflow("middle")
    middle.source(ChannelSource(Order, capacity=1, key="customer")).to(middle.node(outer))
    outer.source(KafkaSource("orders", Order, key="customer")).to(outer.node(middle))

    assert only(outer).startswith("middle: the workflow 'middle' is inside itself")
    assert outer.mermaid().startswith("flowchart LR")


def test_the_timeout_of_a_node_that_is_a_workflow_has_a_route_and_the_route_a_timeout() -> None:
    outer, pay = shop_of(deep(["a"], weighed))
    pay.on(Timeout).to(None)
    assert only(outer).startswith("pay: Timeout has a route, but there is no timeout=")

    outer = Workflow("outer")
    outer.source(KafkaSource("orders", Order, key="customer")).to(
        outer.node(deep(["a"], weighed), name="pay", timeout=SECOND)
    )
    assert only(outer).startswith("pay: may end by its timeout=; that has no route")

    outer = Workflow("outer")
    pay = outer.node(deep(["a"], weighed), name="pay", timeout=timedelta(0))
    outer.source(KafkaSource("orders", Order, key="customer")).to(pay)
    pay.on(Timeout).to(None)
    assert only(outer).startswith("pay: timeout=datetime.timedelta(0) is not within a millisecond and 3660 days")


def test_a_plan_is_made_anew_when_a_workflow_inside_has_grown() -> None:
    inner = deep(["a"], weighed)
    outer, _ = shop_of(inner)
    assert len(outer.compile().nodes) == 2

    inner_node(inner, "weighed")
    inner._graph.sources[0]
    added = inner.node(weighed, name="added")
    inner._graph.routes.clear()
    SourceHandle(inner._graph, inner._graph.sources[0]).to(added, inner_node(inner, "weighed"))

    assert [node.name for node in outer.compile().nodes] == ["pay", "pay/weighed", "pay/added"]


def test_a_workflow_runs_in_one_place_with_all_inside_it() -> None:
    shop = Shop(deep(["a", "b"], small_only))
    plan = shop.workflow.compile()

    assert [unit.name(plan) for unit in plan.units] == ["pay", "paid", "unpaid"]
    assert [plan.nodes[node].name for node in plan.units[0].nodes] == [
        "pay", "pay/b", "pay/b/small_only", "pay/unwrapped",
    ]  # fmt: skip
    assert plan.serial


def test_a_reject_inside_is_a_failure_too() -> None:
    def rejecting(event: Event[Order], ctx: Context) -> Complete:
        raise Reject("not this one")

    shop = Shop(deep(["a"], rejecting))
    with Harness(shop.workflow) as harness:
        send(harness, shop, 1)
        assert shop.texts(harness) == ["not paid: not this one"]


def test_pictures_show_what_is_inside_as_a_box() -> None:
    outer, pay = shop_of(deep(["a", "b"], small_only))
    pay.on(Complete).to(Complete)
    pay.on(Failure).to(None)

    assert (
        outer.mermaid()
        == """\
flowchart LR
  source0(["kafka: orders"])
  subgraph box_node0 ["pay"]
    node0["pay"]
    subgraph box_node1 ["pay/b"]
      node1["pay/b"]
      node2["pay/b/small_only"]
    end
    node3["pay/unwrapped"]
    terminate_node0(("terminated"))
  end
  complete(("completed"))
  source0 --> node0
  box_node0 -->|"Complete"| complete
  node1 --> node2
  node0 --> node1
  box_node1 -->|"Complete"| node3
  box_node1 -->|"Failure"| terminate_node0
"""
    )
    assert "subgraph cluster_box_node1 {" in outer.graphviz()
    assert 'node0 -> complete [label="Complete", ltail=cluster_box_node0];' in outer.graphviz()
    inside = {part.name: part.inside for part in outer.outline().parts}
    assert inside["pay/b/small_only"] == "node1"
    assert inside["pay"] == ""
    assert inside["terminated"] == "node0"


# Joins beside workflows that are nodes.


def half(event: Event[Order], ctx: Context) -> int:
    return event.data.cents // 2


def double(event: Event[Order], ctx: Context) -> int:
    if event.data.cents == 13:
        raise ValueError("unlucky")
    return event.data.cents * 2


def meet(event: Event[Joined[tuple[int | None, int | None]]], ctx: Context) -> list[Order | Receipt]:
    low, high = event.data.results
    found: list[Order | Receipt] = [Receipt(f"{low} and {high}")]
    return [*found, Order(event.key, low)] if low is not None and high is not None else found


class Market:
    """Two branches meet beside the payments, which have what came of the join, too."""

    def __init__(self) -> None:
        self.workflow = workflow = Workflow("market")
        self.orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        self.receipts = workflow.sink(KafkaSink("receipts", Receipt))
        self.pay = workflow.node(paying(), name="pay")
        halving, doubling, meeting = workflow.node(half), workflow.node(double), workflow.node(meet)
        both = workflow.join(halving, doubling)
        done, failed = workflow.node(paid), workflow.node(unpaid)
        self.orders.to(halving, doubling, self.pay)
        halving.to(None)
        doubling.to(None)
        both.to(meeting)
        meeting.on(Receipt).to(self.receipts)
        meeting.on(Order).to(self.pay)
        self.pay.on(Complete).to(done)
        self.pay.on(Failure).to(failed)
        done.to(self.receipts)
        failed.to(self.receipts)


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("point", [None, *CRASH_POINTS])
def test_a_join_beside_a_workflow_that_is_a_node_hears_of_each_event(
    point: str | None, fuse: Literal["all"] | None
) -> None:
    market = Market()
    with Harness(market.workflow, fuse=fuse) as harness:
        for cents in (10, 13, 500, 8):
            if point is not None:
                harness.crash_at(point)
            harness.send(market.orders, Order("ada", cents))

        texts = [receipt.text for receipt in harness.sent(market.receipts, unique=True)]
        assert texts == [
            "5 and 20", "6 and None", "paid [5, 10, 13]", "250 and 1000", "not paid: 250 is too much",
            "not paid: 500 is too much", "4 and 16",
        ]  # fmt: skip
        assert harness.runs["ada"].state(market.pay) == Basket([4, 8])
        assert [letter.node for letter in harness.dead_letters] == ["double"]


def test_a_branch_of_a_join_does_not_lead_through_a_workflow_that_is_a_node() -> None:
    workflow = Workflow("market")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    pay, halving = workflow.node(paying(), name="pay"), workflow.node(half)
    orders.to(pay, halving)
    halving.to(None)
    pay.on(Failure).to(None)
    joined = workflow.join(pay.on(Complete), halving)
    joined.to(Complete)
    pay.on(Complete).to(None)

    assert only(workflow).startswith("pay: leads to pay.Complete of a join, and is a workflow: it ends when it wants")
