"""`Map`: the items of an event, several at a time, one result in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
    KafkaSink,
    KafkaSource,
    Map,
    Mapped,
    Reject,
    RequestSource,
    Workflow,
)
from headrace.testing import Harness

FUSE: list[Literal["all"] | None] = [None, "all"]


class Line(msgspec.Struct, frozen=True):
    article: str
    count: int = 1


class Order(msgspec.Struct, frozen=True):
    number: str
    lines: list[Line]


class Price(msgspec.Struct, frozen=True):
    article: str
    cents: int
    key: str = ""


class Total(msgspec.Struct, frozen=True):
    number: str
    cents: int
    missing: list[str]


async def ask_price(event: Event[Line], ctx: Context) -> Price | None:
    await asyncio.sleep(0)
    line = event.data
    if line.article == "gone":
        raise LookupError("no such article")
    if line.article == "secret":
        raise Reject("not for sale")
    return Price(line.article, 10 * line.count, ctx.idempotency_key) if line.count else None


def know_price(event: Event[Line], ctx: Context) -> Price:
    if event.data.article == "gone":
        raise LookupError("no such article")
    return Price(event.data.article, 10)


def add(event: Event[Mapped[Order, Price]], ctx: Context) -> Total:
    order = event.data.data
    cents = sum(price.cents for price in event.data.results if price is not None)
    return Total(order.number, cents, [order.lines[index].article for index in event.data.failures])


def lines_of(order: Order) -> list[Line]:
    return order.lines


ORDER = Order("7", [Line("tea", 2), Line("gone"), Line("milk"), Line("secret"), Line("none", 0)])


@pytest.mark.parametrize("fuse", FUSE)
def test_results_are_in_order_and_a_failing_item_spoils_no_other(fuse: Literal["all"] | None) -> None:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="number"))
    mapped, totals = workflow.sink(KafkaSink("mapped", Mapped[Order, Price])), workflow.sink(KafkaSink("totals", Total))
    pricing = workflow.node(Map(ask_price, Order, items=lines_of, concurrency=2))
    adding = workflow.node(add)
    orders.to(pricing)
    pricing.to(mapped, adding)
    adding.to(totals)

    with Harness(workflow, fuse=fuse) as harness:
        harness.send(orders, ORDER)

        [found] = harness.sent(mapped)
        assert found.data == ORDER
        assert [price and (price.article, price.cents) for price in found.results] == [
            ("tea", 20), None, ("milk", 10), None, None,
        ]  # fmt: skip
        assert found.failures == {1: Failure("LookupError: no such article"), 3: Failure("not for sale")}
        keys = {price.key for price in found.results if price is not None}
        assert len(keys) == 2, "each item has an idempotency key of its own"
        assert harness.sent(totals) == [Total("7", 30, ["gone", "secret"])]
        assert not harness.dead_letters
    assert pricing.name == "ask_price"


def test_a_function_that_is_not_async_has_one_item_after_the_other() -> None:
    workflow = Workflow("lines", keyed=False)
    lines = workflow.source(ChannelSource(list[Line], capacity=10))
    mapped = workflow.sink(KafkaSink("mapped", Mapped[list[Line], Price]))
    pricing = workflow.node(Map(know_price, list[Line]), name="pricing")
    lines.to(pricing)
    pricing.to(mapped)
    assert not workflow.compile().nodes[0].is_async

    with Harness(workflow) as harness:
        harness.send(lines, [Line("tea"), Line("gone")])
        harness.send(lines, [])
        first, second = harness.sent(mapped)

    assert (first.results, first.failures) == ([Price("tea", 10), None], {1: Failure("LookupError: no such article")})
    assert (second.results, second.failures) == ([], {})


def test_so_many_items_are_under_way_at_a_time_and_no_more() -> None:
    under_way: list[int] = []
    now = 0

    async def counting(event: Event[Line], ctx: Context) -> int:
        nonlocal now
        now += 1
        under_way.append(now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        return event.data.count

    workflow = Workflow("lines", keyed=False)
    lines = workflow.source(ChannelSource(list[Line], capacity=10))
    mapped = workflow.sink(KafkaSink("mapped", Mapped[list[Line], int]))
    node = workflow.node(Map(counting, list[Line], concurrency=3))
    lines.to(node)
    node.to(mapped)

    with Harness(workflow) as harness:
        harness.send(lines, [Line("tea", index) for index in range(10)])

        assert [found.results for found in harness.sent(mapped)] == [list(range(10))]
    assert max(under_way) == 3


def test_replies_of_items_that_went_well_count_in_their_order() -> None:
    async def answer(event: Event[Line], ctx: Context) -> None:
        ctx.reply(f"{event.data.article} of {ctx.run.id}")
        if event.data.article == "gone":
            raise LookupError("no such article")

    workflow = Workflow("lines")
    lines = workflow.source(RequestSource(list[Line]))
    node = workflow.node(Map(answer, list[Line]))
    lines.to(node)
    node.to(None)

    with Harness(workflow) as harness:
        assert harness.request(lines, [Line("gone"), Line("tea"), Line("milk")], key="ada") == "tea of lines/ada"


def test_the_deadline_is_for_all_items_of_an_event() -> None:
    async def never(event: Event[Line], ctx: Context) -> int:
        if event.data.article == "gone":
            await asyncio.Event().wait()
        return 1

    workflow = Workflow("lines", keyed=False)
    lines = workflow.source(ChannelSource(list[Line], capacity=10))
    node = workflow.node(Map(never, list[Line]), timeout=timedelta(milliseconds=50))
    lines.to(node)
    node.to(None)

    with Harness(workflow) as harness:
        harness.send(lines, [Line("tea"), Line("gone")])
        assert [letter.reason for letter in harness.dead_letters] == ["timeout"]


class Way(Action):
    ON = "on"


async def acting(event: Event[Line], ctx: Context) -> Way:
    return Way.ON


async def ending(event: Event[Line], ctx: Context) -> Complete:
    return Complete()


async def listing(event: Event[Line], ctx: Context) -> list[Price]:
    return []


async def keeping(event: Event[Line], ctx: Context[dict[str, int]]) -> Price:
    return Price("tea", 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Map(acting, Order, items=lines_of), "returns actions, a list or an end"),
        (lambda: Map(ending, Order, items=lines_of), "returns actions, a list or an end"),
        (lambda: Map(listing, Order, items=lines_of), "returns actions, a list or an end"),
        (lambda: Map(keeping, Order, items=lines_of), "has a state, and items have none"),  # type: ignore[arg-type]
        (lambda: Map(ask_price, Order), "does not say what the items of Order are"),  # type: ignore[arg-type]
        (lambda: Map(ask_price, Order, items="lines"), "items='lines' can't be called"),  # type: ignore[call-overload]
        (lambda: Map(ask_price, Order, items=lines_of, concurrency=0), "concurrency=0 is no number of items"),
        (lambda: Map(ask_price, list[Order]), "but its function takes Line"),  # type: ignore[arg-type]
        (lambda: Map(lambda event, ctx: 1, Order, items=lines_of), "does not say which data its events have"),
    ],
)
def test_mistakes_are_found_when_the_workflow_is_checked(make: Callable[[], Map[Any, Any, Any]], message: str) -> None:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="number"))
    node: Any = workflow.node(make(), name="pricing")
    orders.to(node)
    node.to(None)

    assert message in " ".join(map(str, workflow.check()))


def test_what_comes_of_it_has_its_type() -> None:
    workflow = Workflow("orders")
    orders = workflow.source(KafkaSource("orders", Order, key="number"))
    pricing = workflow.node(Map(ask_price, Order, items=lines_of))
    orders.to(pricing)
    pricing.to(workflow.sink(KafkaSink("mapped", Mapped[Order, int])))  # type: ignore[arg-type]

    [problem] = workflow.check()
    assert problem.code == "type"
