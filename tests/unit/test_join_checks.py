"""What is wrong with a join is said when it is built, with line and cure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    Action,
    Context,
    Event,
    Failure,
    HeadraceError,
    Joined,
    KafkaSink,
    KafkaSource,
    MessageSource,
    Node,
    RequestSource,
    Timer,
    Workflow,
)


class Order(msgspec.Struct, frozen=True):
    id: str


class Score(msgspec.Struct, frozen=True):
    points: int


class Stock(msgspec.Struct, frozen=True):
    items: int


class Size(Action):
    SMALL = "small"
    LARGE = "large"


def score(event: Event[Order], ctx: Context) -> Score: ...  # type: ignore[empty-body]


def stock(event: Event[Order], ctx: Context) -> Stock: ...  # type: ignore[empty-body]


def size(event: Event[Order], ctx: Context) -> Size: ...  # type: ignore[empty-body]


def many(event: Event[Order], ctx: Context) -> list[Score]: ...  # type: ignore[empty-body]


def pass_on(event: Event[Order], ctx: Context) -> Order: ...  # type: ignore[empty-body]


def either(event: Event[Order], ctx: Context) -> Score | Stock: ...  # type: ignore[empty-body]


def tell(event: Event[Joined[tuple[Score | None, Stock | None]]], ctx: Context) -> None: ...


class Started:
    def __init__(self) -> None:
        self.workflow = Workflow("shop")
        self.orders = self.workflow.source(KafkaSource("orders", Order, key="id"))
        self.scoring, self.stocking = self.workflow.node(score), self.workflow.node(stock)

    def check(self) -> tuple[str, str, str]:
        """Subject, code and message of the one problem."""
        (problem,) = self.workflow.check()
        return problem.subject, problem.code, problem.message


def test_a_join_is_accepted_whenever_its_branches_are_routed() -> None:
    shop = Started()
    joined = shop.workflow.join(shop.scoring, shop.stocking)
    joined.to(shop.workflow.node(tell))
    shop.orders.to(shop.scoring, shop.stocking)
    shop.scoring.to(shop.workflow.sink(KafkaSink("scores", Score)))

    assert shop.workflow.check() == []
    plan = shop.workflow.compile()
    assert plan.node_called("join-score-stock") is not None
    assert [unit.name(plan) for unit in plan.units] == ["score", "stock", "join-score-stock", "tell"]


def test_what_it_gives_is_checked_where_it_goes() -> None:
    def wrong(event: Event[Joined[tuple[Stock | None, Score | None]]], ctx: Context) -> None: ...

    shop = Started()
    shop.orders.to(shop.scoring, shop.stocking)
    shop.workflow.join(shop.scoring, shop.stocking, name="both").to(shop.workflow.node(wrong))  # type: ignore[arg-type]

    subject, code, message = shop.check()

    assert (subject, code) == ("both", "type")
    assert message.startswith("gives ")
    assert "Joined[tuple[" in message


def one_branch(shop: Started) -> None:
    shop.orders.to(shop.scoring)
    shop.workflow._graph.nodes.remove(shop.stocking._item)
    join: Any = shop.workflow.join
    join(shop.scoring, name="both").to(None)


def twice_the_same(shop: Started) -> None:
    shop.orders.to(shop.scoring, shop.stocking)
    shop.stocking.to(None)
    shop.workflow.join(shop.scoring, shop.scoring, name="both").to(None)


def no_such_when(shop: Started) -> None:
    shop.orders.to(shop.scoring, shop.stocking)
    joined = shop.workflow.join(shop.scoring, shop.stocking, name="both", when=3)
    joined.to(None)
    joined.on(Failure).to(None)


def no_such_limit(shop: Started) -> None:
    shop.orders.to(shop.scoring, shop.stocking)
    shop.workflow.join(shop.scoring, shop.stocking, name="both", limit=0).to(None)


def no_failure_route(shop: Started) -> None:
    shop.orders.to(shop.scoring, shop.stocking)
    shop.workflow.join(shop.scoring, shop.stocking, name="both", when="any").to(None)


def no_route(shop: Started) -> None:
    shop.orders.to(shop.scoring, shop.stocking)
    shop.workflow.join(shop.scoring, shop.stocking, name="both")


def a_list(shop: Started) -> None:
    listing = shop.workflow.node(many, name="both")
    shop.orders.to(listing, shop.stocking)
    shop.workflow._graph.nodes.remove(shop.scoring._item)
    shop.workflow.join(listing, shop.stocking, name="joined").to(None)


def two_ways(shop: Started) -> None:
    passing = shop.workflow.node(pass_on)
    shop.orders.to(passing, shop.scoring, shop.stocking)
    passing.to(shop.scoring)
    shop.workflow.join(shop.scoring, shop.stocking).to(None)


def another_source(shop: Started) -> None:
    other = shop.workflow.source(RequestSource(Order, key="id"))
    shop.orders.to(shop.scoring, shop.stocking)
    other.to(shop.scoring)
    shop.workflow.join(shop.scoring, shop.stocking, name="both").to(None)


def round_a_join(shop: Started) -> None:
    def again(event: Event[Joined[Any]], ctx: Context) -> Order: ...  # type: ignore[empty-body]

    back = shop.workflow.node(again)
    shop.orders.to(shop.scoring, shop.stocking)
    shop.workflow.join(shop.scoring, shop.stocking, name="both").to(back)
    back.to(shop.scoring, shop.stocking)


def a_timer(shop: Started) -> None:
    class Late(Node[Order, None, Score]):
        def process(self, event: Event[Order], ctx: Context) -> Score | None:
            ctx.set_timer("late", after=timedelta(1))
            return None

        def on_timer(self, timer: Timer, ctx: Context) -> Score:
            return Score(0)

    late = shop.workflow.node(Late())
    shop.orders.to(late, shop.stocking)
    shop.workflow._graph.nodes.remove(shop.scoring._item)
    shop.workflow.join(late, shop.stocking, name="both").to(None)


def two_of_one_class(shop: Started) -> None:
    choosing = shop.workflow.node(either)
    shop.orders.to(choosing, shop.stocking)
    shop.workflow._graph.nodes.remove(shop.scoring._item)
    shop.workflow.join(choosing, shop.stocking, name="both").to(None)


@pytest.mark.parametrize(
    ("write", "subject", "code", "message"),
    [
        (one_branch, "both", "join", "joins 1 branches"),
        (twice_the_same, "both", "join", "joins score twice"),
        (no_such_when, "both", "join", "when=3 means nothing"),
        (no_such_limit, "both", "join", "limit=0 is no number of groups"),
        (no_failure_route, "both", "no-route", "gives a Failure when too few of its branches are left"),
        (no_route, "both", "no-route", "the headrace.workflows.joining.Joined["),
        (a_list, "both", "join", "may return a list, and so give both of a join several times"),
        (a_timer, "late", "join", "sets timers, and leads to late of a join"),
        (two_ways, "orders", "join", "leads to score of a join by two ways"),
        (another_source, "both", "join", "an event of requests gives score, and never stock"),
        (round_a_join, "both", "join", "a way leads from it back to its own branches"),
        (two_of_one_class, "both", "data-type", "headrace.workflows.joining.Joined[tuple["),
    ],
)
def test_a_join_that_can_not_be_is_refused(
    write: Callable[[Started], None], subject: str, code: str, message: str
) -> None:
    shop = Started()
    write(shop)

    problems = {
        (problem.subject, problem.code, problem.message.startswith(message)) for problem in shop.workflow.check()
    }

    assert (subject, code, True) in problems, shop.workflow.check()


def test_what_comes_later_is_not_joined() -> None:
    shop = Started()
    approvals = shop.workflow.source(MessageSource("approval", Order))
    wait = shop.workflow.wait(approvals, timeout=timedelta(hours=1))
    shop.orders.to(wait, shop.stocking)
    wait.to(shop.scoring)
    shop.workflow.join(shop.scoring, shop.stocking).to(None)

    messages = [problem.message for problem in shop.workflow.check() if problem.code == "join"]

    assert "leads to score of a join: what comes later is another event" in messages


def test_only_what_is_of_the_workflow_can_be_joined() -> None:
    shop, other = Started(), Started()
    wrong: Any = score
    for branch in (other.scoring, wrong):
        with pytest.raises(HeadraceError, match="takes nodes, sources and joins of the same workflow"):
            shop.workflow.join(branch, shop.stocking)


def test_nothing_else_goes_to_a_join() -> None:
    shop = Started()
    shop.orders.to(shop.scoring, shop.stocking)
    joined: Any = shop.workflow.join(shop.scoring, shop.stocking, name="both")
    joined.to(None)
    shop.scoring.to(joined)

    _, code, message = shop.check()

    assert code == "unknown-target"
    assert "'both', which takes what `workflow.join` names, and nothing else" in message


def test_a_join_is_drawn_as_one_place() -> None:
    shop = Started()
    sizing = shop.workflow.node(size)
    shop.orders.to(sizing, shop.stocking)
    sizing.on(Size.LARGE).to(shop.scoring)
    joined = shop.workflow.join(shop.stocking, sizing.on(Size.SMALL), name="both", when="any")
    joined.to(None)
    joined.on(Failure).to(shop.workflow.sink(KafkaSink("failures", Failure)))

    drawn = shop.workflow.mermaid()

    assert '  node3["both (any)"]\n' in drawn
    assert "  node1 --> node3\n" in drawn
    assert '  node2 -->|"SMALL"| node3\n' in drawn
    assert '  node3 -->|"Failure"| sink0\n' in drawn
    assert [part.name for part in shop.workflow.outline().parts if part.kind == "node"] == [
        "score",
        "stock",
        "size",
        "both",
    ]


@pytest.mark.parametrize("fused", [0, 1, 2])
def test_a_join_and_its_parts_are_in_one_place(fused: int) -> None:
    shop = Started()
    shop.orders.to(shop.scoring, shop.stocking)
    joined = shop.workflow.join(shop.scoring, shop.stocking, name="both")
    telling = shop.workflow.node(tell)
    joined.to(telling)
    if fused:
        shop.workflow.fuse(*[telling, shop.scoring][:fused], joined)

    plan = shop.workflow.compile()

    (unit,) = [unit for unit in plan.units if any(plan.nodes[node].name == "both" for node in unit.nodes)]
    names = {plan.nodes[node].name for node in unit.nodes}
    assert {"both", "both:score", "both:stock"} <= names
    assert names - {"both"} - {name for name in names if name.startswith("both:")} == set(["tell", "score"][:fused])
