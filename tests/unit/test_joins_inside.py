"""Joins inside of a workflow that is a node: what they wait for belongs to the inner run, and is gone with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    ChannelSource,
    Complete,
    Context,
    DeadLetterMessage,
    Event,
    Failure,
    Joined,
    KafkaSink,
    KafkaSource,
    Linear,
    Retry,
    Terminate,
    Timeout,
    Workflow,
)
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.joining import JoinState

FUSES: tuple[Any, ...] = (None, "all")
SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    faults: str = ""
    """Names of nodes: `score` fails, `~score` fails for three seconds."""


class Answer(msgspec.Struct, frozen=True):
    text: str


class Faults:
    """What nodes can't do for now."""

    mended = False


def does(event: Event[Order], ctx: Context[Any, Any], name: str) -> int:
    faults = event.data.faults.split()
    if name in faults and not Faults.mended:
        raise ValueError(f"no {name}")
    if f"~{name}" in faults and ctx.attempt < 3:
        raise OSError("not now")
    return event.data.number


def score(event: Event[Order], ctx: Context) -> int:
    return does(event, ctx, "score") * 10


async def stock(event: Event[Order], ctx: Context) -> int:
    return does(event, ctx, "stock")


def decide(event: Event[Joined[tuple[int | None, int | None]]], ctx: Context) -> Complete | Terminate:
    points, items = event.data.results
    if points is None and items is None:
        return Terminate("nothing is known")
    return Complete([points, items, *event.data.failed.values()])


def split(event: Event[Order], ctx: Context) -> list[Order]:
    return [event.data, Order(event.data.customer, event.data.number + 1)]


def say(event: Event[Complete | Failure | Timeout], ctx: Context) -> Answer:
    if isinstance(event.data, Complete):
        return Answer(str(event.data.result))
    return Answer(event.data.error if isinstance(event.data, Failure) else "too late")


class Shop:
    """Orders -> [split ->] check; in it: score and stock -> joined -> decide, which ends the inner run."""

    def __init__(
        self,
        fuse: Any = None,
        when: Any = "all",
        *,
        several: bool = False,
        depth: int = 1,
        lasts: timedelta | None = None,
    ) -> None:
        Faults.mended = False
        inner = Workflow("checking")
        retry = Retry(20, on=(OSError,), backoff=Linear(SECOND, SECOND), jitter=0)
        orders = inner.source(ChannelSource(Order, capacity=10, key="customer"))
        scoring, stocking = inner.node(score, retry=retry), inner.node(stock, retry=retry)
        both, deciding = inner.join(scoring, stocking, when=when, name="both"), inner.node(decide)
        orders.to(scoring, stocking)
        both.to(deciding)
        if when != "all":
            both.on(Failure).to(Terminate)
        letters = inner.sink(KafkaSink("letters", DeadLetterMessage))
        inner.dead_letters.to(letters)
        if lasts is not None:
            inner.timeout(total=lasts)
        for level in range(1, depth):
            inner = around(inner, f"level{level}")
        self.workflow = workflow = Workflow("shop", fuse=fuse)
        self.orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        self.check = workflow.node(inner, name="check")
        saying = workflow.node(say)
        self.answers = workflow.sink(KafkaSink("answers", Answer))
        if several:
            splitting = workflow.node(split)
            self.orders.to(splitting)
            splitting.to(self.check)
        else:
            self.orders.to(self.check)
        for outcome in (Complete, Failure) if lasts is None else (Complete, Failure, Timeout):
            self.check.on(outcome).to(saying)
        saying.to(self.answers)

    def texts(self, harness: Harness) -> list[str]:
        return [answer.text for answer in harness.sent(self.answers, unique=True)]


def around(inner: Workflow, name: str) -> Workflow:
    """A workflow of which another one is the only node."""
    outer = Workflow(name)
    orders = outer.source(ChannelSource(Order, capacity=10, key="customer"))
    node = outer.node(inner, name="deeper")
    orders.to(node)
    node.on(Complete).to(Complete)
    node.on(Failure).to(Terminate)
    return outer


def join_of(harness: Harness, key: str = "ada", name: str = "check/both") -> JoinState:
    state: Any = harness.runs[key].state(name)
    return state  # type: ignore[no-any-return]


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("point", [None, *CRASH_POINTS])
def test_each_event_that_comes_in_is_joined_once_also_of_several_with_one_root(
    point: str | None, depth: int, fuse: Any
) -> None:
    shop = Shop(fuse, several=True, depth=depth)
    with Harness(shop.workflow) as harness:
        for number in (1, 5):
            if point is not None:
                harness.crash_at(point)
            harness.send(shop.orders, Order("ada", number))

        assert shop.texts(harness) == ["[10, 1]", "[20, 2]", "[50, 5]", "[60, 6]"]
        name = f"check/{'deeper/' * (depth - 1)}both"
        assert join_of(harness, name=name) == JoinState()


@pytest.mark.parametrize("fuse", FUSES)
def test_an_event_of_a_list_is_not_joined_with_another_one_that_has_the_same_root(fuse: Any) -> None:
    shop = Shop(fuse, several=True)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 1, "score"))

        assert shop.texts(harness) == ["[None, 1, 'ValueError: no score']", "[20, 2]"]


@pytest.mark.parametrize("fuse", FUSES)
def test_a_branch_that_is_a_dead_letter_counts_as_failed_and_is_not_the_end_of_the_inner_run(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "score"))
        harness.send(shop.orders, Order("ada", 8, "score stock"))

        assert shop.texts(harness) == ["[None, 7, 'ValueError: no score']", "nothing is known"]
        assert [letter.node for letter in harness.dead_letters] == ["check/score", "check/score", "check/stock"]


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize(
    ("when", "faults", "answer"),
    [
        ("any", "", "[70, None]"),
        ("any", "score", "[None, 7, 'ValueError: no score']"),
        ("any", "~score", "[None, 7]"),
        (
            "any",
            "score stock",
            "2 of 2 branches failed, and 1 are needed: score: ValueError: no score; stock: ValueErr",
        ),
        (2, "", "[70, 7]"),
        (2, "stock", "1 of 2 branches failed, and 2 are needed: stock: ValueError: no stock"),
    ],
)
def test_any_and_a_number_of_branches(when: Any, faults: str, answer: str, fuse: Any) -> None:
    shop = Shop(fuse, when)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, faults))
        harness.advance(10 * SECOND)

        (text,) = shop.texts(harness)
        assert answer in text
        assert join_of(harness).open == {}


@pytest.mark.parametrize("fuse", FUSES)
def test_a_branch_that_is_tried_again_is_waited_for(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "~stock"))
        harness.send(shop.orders, Order("bob", 1))
        assert shop.texts(harness) == ["[10, 1]"]
        assert next(iter(join_of(harness).open.values())).results.keys() == {"score"}

        harness.advance(4 * SECOND)

        assert shop.texts(harness) == ["[10, 1]", "[70, 7]"]


@pytest.mark.parametrize("fuse", FUSES)
def test_a_time_out_of_the_inner_run_ends_its_join_and_what_stands_still_of_it(fuse: Any) -> None:
    shop = Shop(fuse, lasts=2 * SECOND)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "~stock"))
        assert len(join_of(harness).open) == 1

        harness.advance(10 * SECOND)
        harness.send(shop.orders, Order("ada", 8))

        assert shop.texts(harness) == ["too late", "[80, 8]"]
        assert join_of(harness) == JoinState(), "the stock of the first order was never joined"
        assert harness.dead_letters == []


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("when", ["all", "any"])
def test_a_dead_letter_that_comes_back_after_the_end_of_its_inner_run_changes_nothing(when: Any, fuse: Any) -> None:
    shop = Shop(fuse, when)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "score"))
        assert shop.texts(harness) == ["[None, 7, 'ValueError: no score']"]

        Faults.mended = True
        assert harness.replay() == 1
        assert join_of(harness).open == {}
        harness.send(shop.orders, Order("ada", 8))

        assert len(shop.texts(harness)) == 2
        assert join_of(harness).open == {}


def test_dead_letters_of_what_is_inside_go_to_the_sinks_of_both_workflows() -> None:
    shop = Shop()
    outer = shop.workflow.sink(KafkaSink("all", DeadLetterMessage))
    shop.workflow.dead_letters.to(outer)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "score"))
        harness.send_raw(shop.orders, b"{}", key="bob")

        inside: list[Any] = harness.sent("check/letters")  # type: ignore[arg-type]
        assert [(letter.workflow, letter.node, letter.reason) for letter in inside] == [
            ("shop", "check/score", "error")
        ]
        assert [letter.node for letter in harness.sent(outer)] == ["check/score", None]
