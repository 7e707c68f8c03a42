"""`workflow.join`: branches of one event meet again, once, with what each of them came to."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import (
    Action,
    Complete,
    Context,
    DeadLetterMessage,
    Event,
    Failure,
    Joined,
    KafkaSink,
    KafkaSource,
    Linear,
    MessageSource,
    Retry,
    Timeout,
    Workflow,
)
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.joining import CLOSED, JoinArrived, JoinLost, JoinProcess, JoinState

FUSES: tuple[Any, ...] = (None, "all")
SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    customer: str
    number: int
    faults: str = ""
    """Names of nodes: `score` fails, `-score` gives nothing, `~score` fails twice."""


class Score(msgspec.Struct, frozen=True):
    points: int


class Stock(msgspec.Struct):
    """Of data that may be changed."""

    items: int


class Decision(msgspec.Struct, frozen=True):
    number: int
    points: int | None
    items: int | None
    failed: dict[str, str]


class Told(msgspec.Struct, frozen=True):
    points: int | None
    items: int | None
    failed: dict[str, str]


class Faults:
    """What nodes can't do for now."""

    mended = False


def does(event: Event[Order], ctx: Context[Any, Any], name: str) -> bool:
    """Whether the node gives something."""
    faults = event.data.faults.split()
    if name in faults and not Faults.mended:
        raise ValueError(f"no {name}")
    if f"~{name}" in faults and ctx.attempt < 3:
        raise OSError("not now")
    return f"-{name}" not in faults


def score(event: Event[Order], ctx: Context) -> Score | None:
    return Score(event.data.number * 10) if does(event, ctx, "score") else None


async def stock(event: Event[Order], ctx: Context) -> Stock | None:
    return Stock(event.data.number) if does(event, ctx, "stock") else None


def check(event: Event[Order], ctx: Context) -> Order | None:
    return event.data if does(event, ctx, "check") else None


def tell(event: Event[Joined[tuple[Score | None, Stock | None]]], ctx: Context) -> Told:
    points, items = event.data.results
    assert points is None or isinstance(points, Score)
    return Told(points and points.points, items and items.items, event.data.failed)


class Shop:
    """Orders -> check -> score and stock -> joined -> tell -> told; failures of the join -> failures."""

    def __init__(self, fuse: Any = None, when: Any = "all", **options: Any) -> None:
        Faults.mended = False
        self.workflow = workflow = Workflow("shop", fuse=fuse)
        retry = Retry(5, on=(OSError,), backoff=Linear(SECOND, SECOND), jitter=0)
        self.orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        self.checking = workflow.node(check, retry=retry)
        self.scoring, self.stocking = workflow.node(score, retry=retry), workflow.node(stock, retry=retry)
        self.joined = workflow.join(self.scoring, self.stocking, when=when, name="both", **options)
        self.telling = workflow.node(tell)
        self.told = workflow.sink(KafkaSink("told", Told))
        self.failures = workflow.sink(KafkaSink("failures", Failure))
        self.orders.to(self.checking)
        self.checking.to(self.scoring, self.stocking)
        self.joined.to(self.telling)
        self.joined.on(Failure).to(self.failures)
        self.telling.to(self.told)


def told(faults: str, when: Any = "all", fuse: Any = None) -> list[Told | str]:
    """What one order comes to."""
    shop = Shop(fuse, when)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, faults))
        harness.advance(20 * SECOND)

        state: Any = harness.runs["ada"].state(shop.joined)  # type: ignore[arg-type]
        assert not state.open
        assert state.size == 0
        return [*harness.sent(shop.told), *(failure.error for failure in harness.sent(shop.failures))]


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize(
    ("faults", "points", "items", "failed"),
    [
        ("", 70, 7, {}),
        ("score", None, 7, {"score": "ValueError: no score"}),
        ("stock", 70, None, {"stock": "ValueError: no stock"}),
        ("-stock", 70, None, {"stock": "nothing came of it"}),
        ("score -stock", None, None, {"score": "ValueError: no score", "stock": "nothing came of it"}),
        ("check", None, None, {"score": "ValueError: no check", "stock": "ValueError: no check"}),
        ("-check", None, None, {"score": "nothing came of it", "stock": "nothing came of it"}),
        ("~score", 70, 7, {}),
        ("~score ~stock ~check", 70, 7, {}),
    ],
)
def test_it_fires_once_all_branches_have_given_something_or_have_failed(
    faults: str, points: int | None, items: int | None, failed: dict[str, str], fuse: Any
) -> None:
    assert told(faults, fuse=fuse) == [Told(points, items, failed)]


@pytest.mark.parametrize("fuse", FUSES)
def test_any_takes_the_first_that_gives_something(fuse: Any) -> None:
    assert told("~score", "any", fuse) == [Told(None, 7, {})], "the other comes later, and is not waited for"
    assert told("score ~stock", "any", fuse) == [Told(None, 7, {"score": "ValueError: no score"})]
    assert told("score -stock", "any", fuse) == [
        "2 of 2 branches failed, and 1 are needed: score: ValueError: no score; stock: nothing came of it"
    ]


@pytest.mark.parametrize("fuse", FUSES)
def test_a_number_of_branches_is_enough_or_has_become_impossible(fuse: Any) -> None:
    assert told("~score", 2, fuse) == [Told(70, 7, {})]
    assert told("score ~stock", 2, fuse) == ["1 of 2 branches failed, and 2 are needed: score: ValueError: no score"], (
        "it does not wait for what can't help any more"
    )


def test_what_a_join_can_not_reach_says_what_there_was() -> None:
    shop = Shop(when=2)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 7, "score"))

        (failure,) = harness.sent(shop.failures)
        assert (failure.reason, failure.node) == ("join", "both")
        assert failure.data["failed"] == {"score": "ValueError: no score"}


@pytest.mark.parametrize("fuse", FUSES)
def test_later_events_of_a_run_are_joined_while_an_earlier_one_waits(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        with harness.batch():
            harness.send(shop.orders, Order("ada", 1, "~stock"))
            harness.send(shop.orders, Order("bob", 2))
            harness.send(shop.orders, Order("ada", 3, "-stock"))
        assert [row.points for row in harness.sent(shop.told)] == [20]

        harness.advance(20 * SECOND)

        assert sorted(row.points or 0 for row in harness.sent(shop.told)) == [10, 20, 30]


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_it_fires_once_wherever_the_process_dies(point: str, fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        harness.crash_at(point)
        for number, faults in enumerate(["", "~stock", "score", ""]):
            harness.send(shop.orders, Order("ada", number, faults))
        harness.advance(20 * SECOND)

        rows = harness.sent(shop.told, unique=True)
        assert sorted((row.points, row.items) for row in rows if row.points is not None) == [(0, 0), (10, 1), (30, 3)]
        assert [row.items for row in rows if row.points is None] == [2]


@pytest.mark.parametrize("fuse", FUSES)
def test_ten_thousand_groups_whose_last_branches_come_together_fire_once_each(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness, harness.batch():
        for number in range(10_000):
            harness.send(shop.orders, Order(f"c{number % 500}", number))

    assert sorted(row.items or 0 for row in harness.sent(shop.told)) == list(range(10_000))
    assert all(row.points == 10 * (row.items or 0) for row in harness.sent(shop.told))


@pytest.mark.parametrize("fuse", FUSES)
def test_groups_of_one_run_that_are_complete_at_the_same_moment_fire_once_each(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        with harness.batch():
            for number in range(600):
                harness.send(shop.orders, Order("ada", number, "~stock" if number == 0 else ""))
        assert harness.sent(shop.told) == [], "the others stand behind the first one"

        harness.advance(20 * SECOND)

        assert [row.items for row in harness.sent(shop.told)] == list(range(600))


@pytest.mark.parametrize("fuse", FUSES)
def test_a_branch_that_comes_after_its_join_has_fired_changes_nothing(fuse: Any) -> None:
    shop = Shop(fuse)
    with Harness(shop.workflow) as harness:
        harness.send(shop.orders, Order("ada", 1, "score"))
        harness.send(shop.orders, Order("ada", 2, "check"))
        assert len(harness.sent(shop.told)) == 2
        Faults.mended = True

        assert harness.replay() == 2

        assert harness.dead_letters == []
        assert len(harness.sent(shop.told)) == 2
        state: Any = harness.runs["ada"].state(shop.joined)  # type: ignore[arg-type]
        assert not state.open
        assert len(state.closed) == 2


def test_what_is_remembered_of_groups_is_bounded() -> None:
    shop = Shop()
    with Harness(shop.workflow) as harness:
        for number in range(CLOSED + 5):
            harness.send(shop.orders, Order("ada", number, "score"))

        state: Any = harness.runs["ada"].state(shop.joined)  # type: ignore[arg-type]
        assert len(state.closed) == CLOSED
        assert "orders/0/0" not in " ".join(state.closed)


@pytest.mark.parametrize("fuse", FUSES)
def test_with_too_many_open_groups_the_oldest_is_not_waited_for_any_longer(fuse: Any) -> None:
    shop = Shop(fuse, limit=2)
    with Harness(shop.workflow) as harness:
        with harness.batch():
            for number in range(4):
                harness.send(shop.orders, Order("ada", number, "~stock"))
        assert [(row.points, row.items, list(row.failed)) for row in harness.sent(shop.told)] == [
            (0, None, ["stock"]), (10, None, ["stock"]),
        ]  # fmt: skip
        (why,) = {row.failed["stock"] for row in harness.sent(shop.told)}
        assert why == "not there yet, and its run has 3 open groups"

        harness.advance(20 * SECOND)

        assert [row.items for row in harness.sent(shop.told)] == [None, None, 2, 3], "what comes late changes nothing"
        assert harness.dead_letters == []


def test_with_too_much_data_in_open_groups_the_oldest_is_not_waited_for_any_longer() -> None:
    class Page(msgspec.Struct, frozen=True):
        text: str

    class Length(msgspec.Struct, frozen=True):
        left: int
        failed: int

    def large(event: Event[Order], ctx: Context) -> Page:
        return Page("x" * 200_000)

    def never(event: Event[Order], ctx: Context) -> Page:
        raise OSError("not now")

    def measure(event: Event[Joined[tuple[Page | None, Page | None]]], ctx: Context) -> Length:
        left, _ = event.data.results
        return Length(len(left.text) if left else 0, len(event.data.failed))

    workflow = Workflow("pages")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    one, two = workflow.node(large), workflow.node(never, retry=Retry(5, backoff=Linear(SECOND, SECOND)))
    orders.to(one, two)
    measuring, lengths = workflow.node(measure), workflow.sink(KafkaSink("lengths", Length))
    workflow.join(one, two).to(measuring)
    measuring.to(lengths)
    with Harness(workflow) as harness:
        for number in range(5):
            harness.send(orders, Order("ada", number))

        assert harness.sent(lengths) == [Length(200_000, 1)] * 3
        assert harness.dead_letters == []


@pytest.mark.parametrize("fuse", FUSES)
def test_what_a_branch_gives_may_go_elsewhere_too_and_a_source_may_be_a_branch(fuse: Any) -> None:
    def match(event: Event[Joined[tuple[Order | None, Score | None]]], ctx: Context) -> Told:
        order, points = event.data.results
        assert order is not None
        assert points is not None
        return Told(points.points, order.number, {})

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    scoring, matching = workflow.node(score), workflow.node(match)
    joined = workflow.join(orders, scoring)
    scores, results = workflow.sink(KafkaSink("scores", Score)), workflow.sink(KafkaSink("results", Told))
    orders.to(scoring)
    scoring.to(scores)
    joined.to(matching)
    matching.to(results)
    with Harness(workflow) as harness:
        with harness.batch():
            for number in range(3):
                harness.send(orders, Order("ada", number))

        assert harness.sent(scores) == [Score(0), Score(10), Score(20)]
        assert harness.sent(results) == [Told(0, 0, {}), Told(10, 1, {}), Told(20, 2, {})]


class Size(Action):
    SMALL = "small"
    LARGE = "large"


@pytest.mark.parametrize("fuse", FUSES)
def test_branches_may_be_actions_and_joins_may_be_branches(fuse: Any) -> None:
    def size(event: Event[Order], ctx: Context) -> Size:
        return Size.SMALL if event.data.number < 10 else Size.LARGE

    def sum_up(event: Event[Any], ctx: Context) -> Told:
        _, both = event.data.results
        points, items = both.results
        return Told(points.points, items.items, event.data.failed)

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    sizing, scoring, stocking = workflow.node(size), workflow.node(score), workflow.node(stock)
    orders.to(sizing, scoring, stocking)
    inner = workflow.join(scoring, stocking)
    sizing.on(Size.LARGE).to(None)
    outer = workflow.join(sizing.on(Size.SMALL), inner, name="outer")
    summing, results = workflow.node(sum_up), workflow.sink(KafkaSink("results", Told))
    outer.to(summing)
    summing.to(results)
    assert workflow.check() == []
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 3))
        harness.send(orders, Order("ada", 30))

        assert harness.dead_letters == []
        assert harness.sent(results) == [Told(30, 3, {}), Told(300, 30, {"size.SMALL": "nothing came of it"})]


@pytest.mark.parametrize("fuse", FUSES)
def test_what_waits_at_a_join_ends_with_its_run(fuse: Any) -> None:
    def end(event: Event[Order], ctx: Context) -> Complete | None:
        return Complete("done") if event.data.number == 2 else None

    workflow = Workflow("shop", fuse=fuse)
    retry = Retry(5, on=(OSError,), backoff=Linear(SECOND, SECOND), jitter=0)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    scoring, stocking = workflow.node(score, retry=retry), workflow.node(stock, retry=retry)
    joined = workflow.join(scoring, stocking)
    telling, results = workflow.node(tell), workflow.sink(KafkaSink("results", Told))
    orders.to(scoring, workflow.node(end), stocking)
    joined.to(telling)
    telling.to(results)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1, "~stock"))
        harness.send(orders, Order("ada", 2))
        harness.send(orders, Order("ada", 3))
        harness.advance(20 * SECOND)

        assert harness.runs["ada"].status == "running"
        assert [row.points for row in harness.sent(results)] == [10, 30]


def test_data_that_does_not_fit_its_own_type_is_a_branch_that_failed() -> None:
    def lie(event: Event[Order], ctx: Context) -> Score:
        wrong: Any = "many"
        return Score(wrong)

    workflow = Workflow("shop")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    lying, stocking, telling = workflow.node(lie, name="score"), workflow.node(stock), workflow.node(tell)
    results = workflow.sink(KafkaSink("results", Told))
    orders.to(lying, stocking)
    workflow.join(lying, stocking).to(telling)
    telling.to(results)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))

        assert [row.items for row in harness.sent(results)] == [1]
        assert "points" in harness.sent(results)[0].failed["score"]


@pytest.mark.parametrize("fuse", FUSES)
def test_waits_time_outs_and_dead_letters_beside_a_join_keep_their_routes(fuse: Any) -> None:
    def ended(event: Event[Timeout], ctx: Context) -> Told:
        return Told(None, None, {"over": str(event.data.after)})

    def call(event: Event[str], ctx: Context) -> Told:
        return Told(None, None, {"call": event.data})

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    scoring, stocking, telling = workflow.node(score), workflow.node(stock), workflow.node(tell)
    results = workflow.sink(KafkaSink("results", Told))
    workflow.join(scoring, stocking).to(telling)
    calls = workflow.source(MessageSource("call", str))
    waiting = workflow.wait(calls, timeout=SECOND)
    over, late, called = workflow.node(ended, name="over"), workflow.node(ended, name="late"), workflow.node(call)
    letters = workflow.sink(KafkaSink("letters", DeadLetterMessage))
    orders.to(scoring, stocking, waiting)
    waiting.to(called)
    waiting.on(Timeout).to(over)
    workflow.timeout(total=timedelta(hours=1)).to(late)
    workflow.dead_letters.to(letters)
    for node in (telling, over, late, called):
        node.to(results)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1, "score"))
        harness.send(calls, "now", key="ada")
        harness.send(orders, Order("bob", 2))
        harness.advance(timedelta(hours=2))

        assert [letter.node for letter in harness.sent(letters)] == ["score"]
        failed = [row.failed for row in harness.sent(results)]
        assert {"call": "now"} in failed
        assert failed.count({"over": "0:00:01"}) == 1
        assert failed.count({"over": "1:00:00"}) == 2


@pytest.mark.parametrize("fuse", FUSES)
def test_what_was_no_event_is_not_joined(fuse: Any) -> None:
    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    scoring, stocking, telling = workflow.node(score), workflow.node(stock), workflow.node(tell)
    results = workflow.sink(KafkaSink("results", Told))
    orders.to(scoring, stocking)
    workflow.join(scoring, stocking).to(telling)
    telling.to(results)
    with Harness(workflow) as harness:
        harness.send_raw(orders, b'{"customer": "ada", "number": "x"}', key="ada")

        assert [letter.reason for letter in harness.dead_letters] == ["decode"]
        assert harness.sent(results) == []


@pytest.mark.parametrize("fuse", FUSES)
def test_an_event_that_goes_round_for_ever_is_a_branch_that_failed(fuse: Any) -> None:
    class Round(Action):
        AGAIN = "again"

    def turn(event: Event[Order], ctx: Context) -> Round | Score:
        return Round.AGAIN

    workflow = Workflow("shop", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    turning, stocking, telling = workflow.node(turn), workflow.node(stock), workflow.node(tell)
    results = workflow.sink(KafkaSink("results", Told))
    orders.to(turning, stocking)
    turning.on(Round.AGAIN).to(turning)
    workflow.join(turning, stocking).to(telling)
    telling.to(results)
    with Harness(workflow) as harness:
        harness.send(orders, Order("ada", 1))

        assert [letter.reason for letter in harness.dead_letters] == ["hops"]
        (row,) = harness.sent(results)
        assert row.items == 1
        assert row.failed["turn"].startswith("passed 100 nodes")


@pytest.mark.parametrize("fuse", FUSES)
def test_the_one_run_of_a_workflow_without_keys_joins_too_and_branches_may_be_replaced(fuse: Any) -> None:
    def fake(event: Event[Order], ctx: Context) -> Score:
        return Score(event.data.number + 1)

    workflow = Workflow("shop", keyed=False, fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order))
    scoring, stocking, telling = workflow.node(score), workflow.node(stock), workflow.node(tell)
    results = workflow.sink(KafkaSink("results", Told))
    orders.to(scoring, stocking)
    workflow.join(scoring, stocking).to(telling)
    telling.to(results)
    with Harness(workflow, replace={scoring: fake}) as harness:
        with harness.batch():
            for number in range(3):
                harness.send(orders, Order("ada", number))

        assert harness.sent(results) == [Told(1, 0, {}), Told(2, 1, {}), Told(3, 2, {})]


def meet(process: JoinProcess, state: JoinState, root: int, *branches: str) -> list[Joined[Any] | Failure]:
    """Let branches of one event come to a join; what it gives."""
    context: Any = SimpleNamespace(state=state)
    given: list[Joined[Any] | Failure] = []
    for name in branches:
        news = JoinArrived(name, msgspec.Raw(f'"{name} of {root}"'.encode()))
        given += process(Event(news, "ada", "orders/0", root, (0,)), context)
    return given


def joining(*branches: str, need: int | None = None) -> JoinProcess:
    return JoinProcess("both", branches, [msgspec.json.Decoder(str).decode] * len(branches), need, 10)


def test_groups_of_a_version_with_other_branches_are_neither_lost_nor_waited_for_in_vain() -> None:
    state = JoinState()
    assert meet(joining("a", "b", "c"), state, 1, "a", "b") == []
    assert meet(joining("a", "b", "c"), state, 2, "a") == []
    state = msgspec.json.decode(msgspec.json.encode(state), type=JoinState)

    assert meet(joining("a", "b"), state, 3, "b", "a") == [
        Joined(("a of 1", "b of 1")), Joined(("a of 3", "b of 3")),
    ]  # fmt: skip
    assert meet(joining("b", "d", "a"), state, 2, "b") == [
        Joined(("b of 2", None, "a of 2"), {"d": "was no branch of the join when its event came"})
    ]
    assert (state.open, state.size) == ({}, 0)


@given(st.data())
def test_whatever_comes_in_whatever_order_each_group_goes_on_once(data: st.DataObject) -> None:
    need = data.draw(st.sampled_from([None, 1, 2, 3]))
    process, state = joining("a", "b", "c", need=need), JoinState()
    news = data.draw(st.permutations([(root, name) for root in range(4) for name in "abc"]))
    lost = data.draw(st.sets(st.sampled_from(news)))
    given: dict[int, list[Joined[Any] | Failure]] = {root: [] for root in range(4)}
    for root, name in news:
        fact: Any = JoinLost((name,), "gone", stopped=False)
        if (root, name) not in lost:
            fact = JoinArrived(name, msgspec.Raw(b'"x"'))
        context: Any = SimpleNamespace(state=state)
        given[root] += process(Event(fact, "ada", "orders/0", root), context)

    for root, rows in given.items():
        (row,) = rows
        failed = sum(place == root for place, _ in lost)
        assert isinstance(row, Failure) == (need is not None and 3 - failed < need)
    assert (state.open, state.size, state.closed) == ({}, 0, {})
