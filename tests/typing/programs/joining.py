"""Joins: what meets is typed by its branches, in their order; each may be missing."""

from __future__ import annotations

import msgspec

from headrace import Action, Context, Event, Failure, Joined, KafkaSink, KafkaSource, Node, Workflow


class Order(msgspec.Struct, frozen=True):
    id: str


class Score(msgspec.Struct, frozen=True):
    points: int


class Stock(msgspec.Struct, frozen=True):
    items: int


class Decision(msgspec.Struct, frozen=True):
    accepted: bool


class Size(Action):
    SMALL = "small"
    LARGE = "large"


def score(event: Event[Order], ctx: Context) -> Score:
    return Score(1)


async def stock(event: Event[Order], ctx: Context) -> Stock | None:
    return None


def size(event: Event[Order], ctx: Context) -> Size:
    return Size.SMALL


def decide(event: Event[Joined[tuple[Score | None, Stock | None]]], ctx: Context) -> Decision:
    points, items = event.data.results
    return Decision(points is not None and points.points > 0 and items is not None and items.items > 0)


class Judge(Node[Joined[tuple[Order | None, Decision | None, Order | None]], None, Decision]):
    def process(
        self, event: Event[Joined[tuple[Order | None, Decision | None, Order | None]]], ctx: Context
    ) -> Decision:
        order, decision, small = event.data.results
        accepted = order is not None and decision is not None and small is not None and bool(small.id)
        return Decision(accepted and not event.data.failed)


workflow = Workflow("joining")
orders = workflow.source(KafkaSource("orders", Order, key="id"))
decisions = workflow.sink(KafkaSink("decisions", Decision))
failures = workflow.sink(KafkaSink("failures", Failure))
scoring, stocking, sizing = workflow.node(score), workflow.node(stock), workflow.node(size)
deciding, judging = workflow.node(decide), workflow.node(Judge())
orders.to(scoring, stocking, sizing)
both = workflow.join(scoring, stocking)
both.to(deciding)
deciding.to(decisions)
sizing.on(Size.LARGE).to(None)
all_of_it = workflow.join(orders, deciding, sizing.on(Size.SMALL), when=2)
all_of_it.to(judging)
all_of_it.on(Failure).to(failures)
judging.to(decisions)
workflow.fuse(both, deciding)


def sum_up(
    event: Event[Joined[tuple[Joined[tuple[Score | None, Stock | None]] | None, Order | None]]], ctx: Context
) -> None:
    inner, order = event.data.results
    if inner is not None and order is not None:
        points, _ = inner.results
        assert points is None or points.points


workflow.join(both, sizing.on(Size.SMALL), name="outer").to(workflow.node(sum_up))
