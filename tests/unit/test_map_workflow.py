"""`Map` over a workflow: a run of it for each item of an event."""

from __future__ import annotations

import asyncio
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
    Linear,
    Map,
    Mapped,
    Node,
    Reject,
    RequestSource,
    Retry,
    Terminate,
    Timer,
    Workflow,
    WorkflowError,
)
from headrace.testing import Harness

Fuse = Literal["all"] | None
FUSE: list[Fuse] = [None, "all"]
SECOND = timedelta(seconds=1)


class Line(msgspec.Struct, frozen=True):
    article: str
    count: int = 1


class Order(msgspec.Struct, frozen=True):
    number: str
    lines: list[Line]


class Round(Action):
    AGAIN = "again"
    DONE = "done"


class Basket(msgspec.Struct):
    rounds: int = 0


class Weighing:
    """Inner workflow: a line goes round as often as its count says, and completes; `gone` fails, `banned` ends."""

    def __init__(self) -> None:
        self.most = self.now = 0
        self.opened = 0
        self.workflow = workflow = Workflow("weighing", state=Basket)
        lines = workflow.source(ChannelSource(Line, capacity=1, key="article"))
        going = workflow.node(Going(self))
        ending = workflow.node(finish)
        lines.to(going)
        going.on(Round.AGAIN).to(going)
        going.on(Round.DONE).to(ending)


class Going(Node[Line, Basket, Round]):
    def __init__(self, weighing: Weighing) -> None:
        self.weighing = weighing

    async def open(self) -> None:
        self.weighing.opened += 1

    async def process(self, event: Event[Line], ctx: Context[Basket, Basket]) -> Round | Terminate:
        weighing = self.weighing
        weighing.now += 1
        weighing.most = max(weighing.most, weighing.now)
        await asyncio.sleep(0)
        weighing.now -= 1
        if event.data.article == "gone":
            raise LookupError("no such article")
        if event.data.article == "secret":
            raise Reject("not for sale")
        if event.data.article == "banned":
            return Terminate("not allowed")
        ctx.state.rounds += 1
        ctx.run.state.rounds += 1
        return Round.AGAIN if ctx.state.rounds < event.data.count else Round.DONE


def finish(event: Event[Line], ctx: Context[None, Basket]) -> Complete | None:
    if event.data.article == "open":
        return None
    return Complete([event.data.article, ctx.run.state.rounds, ctx.run.id, ctx.idempotency_key])


def say(event: Event[Mapped[Order, Any]], ctx: Context) -> list[str]:
    mapped = event.data
    results = [f"{index}: {result}" for index, result in enumerate(mapped.results) if result is not None]
    return results + [f"{index} failed: {failure}" for index, failure in mapped.failures.items()]


def outer_of(inner: Workflow, concurrency: int = 2) -> Any:
    workflow = Workflow("outer")
    orders = workflow.source(KafkaSource("orders", Order, key="number"))
    said = workflow.sink(KafkaSink("said", str))
    mapping = workflow.node(Map(inner, Order, items=lambda order: order.lines, concurrency=concurrency), name="weigh")
    saying = workflow.node(say)
    orders.to(mapping)
    mapping.to(saying)
    saying.to(said)
    return workflow, orders, said, mapping


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_a_workflow_is_mapped_over_the_items_in_their_order_and_a_failing_one_spoils_no_other(
    fuse: Fuse,
) -> None:
    weighing = Weighing()
    workflow, orders, said, _ = outer_of(weighing.workflow)
    articles = ["tea", "gone", "milk", "banned", "secret", "open"]

    with Harness(workflow, fuse=fuse, partitions=1) as harness:
        harness.send(orders, Order("7", [Line(name, number) for number, name in enumerate(articles, start=1)]))

        assert weighing.opened == 1
        assert harness.sent(said) == [
            "0: ['tea', 1, 'outer/7', 'orders/0/0.0/weigh/finish/2']",
            "2: ['milk', 3, 'outer/7', 'orders/0/0.2/weigh/finish/4']",
            "1 failed: " + str(Failure("LookupError: no such article", "error", "weigh/going", 1,
                                       {"article": "gone", "count": 2})),
            "3 failed: " + str(Failure("not allowed")),
            "4 failed: " + str(Failure("not for sale", "reject", "weigh/going", 1, {"article": "secret", "count": 5})),
            "5 failed: " + str(Failure("its run has come to no end", "unended")),
        ]  # fmt: skip
        assert not harness.dead_letters

        harness.send(orders, Order("7", [Line("tea", 2)]))
        assert harness.sent(said)[6:] == ["0: ['tea', 2, 'outer/7', 'orders/0/1.0/weigh/finish/3']"], (
            "states begin anew"
        )


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_items_of_an_event_have_their_runs_side_by_side(concurrency: int) -> None:
    weighing = Weighing()
    workflow, orders, said, _ = outer_of(weighing.workflow, concurrency)

    with Harness(workflow) as harness:
        harness.send(orders, Order("7", [Line("tea", 3)] * 8))

        assert [text.partition(" 'outer")[0] for text in harness.sent(said)] == [
            f"{index}: ['tea', 3," for index in range(8)
        ], "each with states of its own"
        assert weighing.most == concurrency


def test_a_workflow_of_plain_functions_is_mapped_and_others_inside_it_too() -> None:
    innermost = Workflow("innermost", state=Basket)
    lines = innermost.source(ChannelSource(Line, capacity=1, key="article"))
    lines.to(innermost.node(counted))
    inner = Workflow("inner")
    node = inner.node(innermost)
    lines = inner.source(ChannelSource(Line, capacity=1, key="article"))
    lines.to(node)
    node.on(Complete).to(inner.node(wrapped))
    workflow, orders, said, _ = outer_of(inner)

    with Harness(workflow) as harness:
        harness.send(orders, Order("7", [Line("tea"), Line("milk", 2)]))
        assert harness.sent(said) == ["0: {'wrapped': 1}", "1: {'wrapped': 1}"]


def counted(event: Event[Line], ctx: Context[None, Basket]) -> Complete:
    ctx.run.state.rounds += 1
    return Complete(ctx.run.state.rounds)


def wrapped(event: Event[Complete], ctx: Context) -> Complete:
    return Complete({"wrapped": event.data.result})


def test_the_reply_of_an_item_that_succeeds_is_the_requests() -> None:
    inner = Workflow("inner")
    inner.source(ChannelSource(Line, capacity=1, key="article")).to(inner.node(replying))
    workflow = Workflow("outer")
    requests = workflow.source(RequestSource(list[Line]))
    mapping = workflow.node(Map(inner, list[Line]), name="map")
    requests.to(mapping)
    mapping.to(None)

    with Harness(workflow) as harness:
        assert harness.request(requests, [Line("bad"), Line("good"), Line("better")], key="7") == "good"


def replying(event: Event[Line], ctx: Context) -> Complete:
    ctx.reply(event.data.article)
    if event.data.article == "bad":
        raise ValueError("bad")
    return Complete()


class Trying:
    """Inner workflow: a node with a state, and one that fails as often as the line's count says, by a policy."""

    def __init__(self, *, fast: bool) -> None:
        retry = Retry(4, on=(OSError,), backoff=Linear(timedelta(milliseconds=2)))
        self.workflow = workflow = Workflow("trying", state=Basket)
        lines = workflow.source(ChannelSource(Line, capacity=1, key="article"))
        counting = workflow.node(count)
        asking = workflow.node(asked if fast else asked_slowly, retry=retry)
        lines.to(counting)
        counting.to(asking)


def count(event: Event[Line], ctx: Context[Basket, Basket]) -> Line:
    ctx.state.rounds += 1
    ctx.run.state.rounds += 1
    ctx.set_value(event.data.article, ctx.attempt)
    return event.data


def asked(event: Event[Line], ctx: Context[Basket, Basket]) -> Complete:
    ctx.state.rounds += 1
    if event.data.article == "broken":
        raise ValueError("for good")
    if ctx.attempt <= event.data.count:
        raise OSError(f"not now, {ctx.attempt}")
    return Complete([event.data.article, ctx.attempt, ctx.state.rounds, ctx.run.state.rounds])


async def asked_slowly(event: Event[Line], ctx: Context[Basket, Basket]) -> Complete:
    await asyncio.sleep(0)
    return asked(event, ctx)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("fuse", FUSE)
def test_an_item_is_tried_again_within_the_call_and_goes_on_with_its_states(fuse: Fuse, fast: bool) -> None:
    workflow, orders, said, _ = outer_of(Trying(fast=fast).workflow)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(orders, Order("7", [Line("tea", 2), Line("jam", 0), Line("milk", 9), Line("broken")]))

        rows = harness.sent(said)
        assert rows[:2] == ["0: ['tea', 3, 1, 1]", "1: ['jam', 1, 1, 1]"], "what failed left nothing in the state"
        assert "2 failed" in rows[2]
        assert ("OSError: not now, 4" in rows[2], "attempts=4" in rows[2]) == (True, True)
        assert ("ValueError: for good" in rows[3], "attempts=1" in rows[3]) == (True, True)
        assert harness.dead_letters == []
        assert harness.runs["7"].values == {"tea": 1, "jam": 1}


def test_an_item_whose_async_call_takes_longer_than_an_epoch_waits_is_waited_for() -> None:
    inner = Workflow("inner", epoch_deadline=SECOND)
    calls: list[str] = []

    async def long(event: Event[Line], ctx: Context) -> Complete:
        calls.append(event.data.article)
        await asyncio.sleep(1.1)
        return Complete(event.data.article)

    inner.source(ChannelSource(Line, capacity=1, key="article")).to(inner.node(long))
    workflow, orders, said, _ = outer_of(inner)
    with Harness(workflow) as harness:
        harness.send(orders, Order("7", [Line("tea")]))

        assert (harness.sent(said), calls) == (["0: tea"], ["tea"])


# Mistakes.


class Timed(Node[Line, None, None]):
    def process(self, event: Event[Line], ctx: Context) -> Complete:
        return Complete()

    def on_timer(self, timer: Timer, ctx: Context) -> None: ...


def test_what_would_wait_or_leave_is_refused_with_its_line() -> None:
    inner = Workflow("inner")
    lines = inner.source(ChannelSource(Line, capacity=1, key="article"))
    sink = inner.sink(KafkaSink("lines", Line))
    timed = inner.node(Timed())
    trying = inner.node(counted_plain, retry=Retry(3, backoff=Linear(timedelta(minutes=1))))
    soon = inner.node(counted_plain, name="soon", retry=Retry(3))
    slow = inner.node(counted_plain, name="slow", timeout=SECOND)
    wait = inner.wait(lines)
    lines.to(timed, trying, soon, slow, wait, sink)
    wait.to(None)
    inner.timeout(total=SECOND).to(None)
    workflow, *_ = outer_of(inner)

    found = [problem for problem in workflow.check() if problem.code == "map"]
    assert all(problem.where.startswith("tests/unit/test_map_workflow.py:") for problem in found)
    assert sorted(problem.message.partition(" in a workflow that is mapped")[0] for problem in found) == [
        "on_timer of timed", "retry= of counted_plain, which may wait longer than 0:01:00", "the sink lines",
        "timeout= of slow, which is not async",
        "workflow.timeout", "workflow.wait (order)".replace("order", "line"),
    ]  # fmt: skip


def counted_plain(event: Event[Line], ctx: Context) -> Complete:
    return Complete()


def only(workflow: Workflow) -> str:
    [problem] = workflow.check()
    return str(problem).partition("  ")[2]


def test_a_mapped_workflow_takes_the_items_and_completes() -> None:
    inner = Workflow("inner")
    inner.source(ChannelSource(Line, capacity=1, key="article")).to(None)
    assert "weigh: nothing in the workflow 'inner' returns Complete" in only(outer_of(inner)[0])

    workflow = Workflow("outer")
    mapping = workflow.node(Map(Weighing().workflow, list[str]), name="map")
    workflow.source(KafkaSource("texts", list[str], key=str)).to(mapping)
    mapping.to(None)
    assert "map: its items are str, but 'weighing' takes Line" in only(workflow)

    inner = Workflow("inner")
    inner.source(ChannelSource(Line, capacity=1, key="article")).to(inner.node(counted_plain), Complete)
    assert "weigh: its items end at once: there is nothing to run" in only(outer_of(inner)[0])

    inner = Weighing().workflow
    inner.source(ChannelSource(Line, capacity=1, key="article", name="more")).to(None)
    assert "has 2 sources; items have one way in" in only(outer_of(inner)[0])


def test_mistakes_in_a_mapped_workflow_are_named_with_the_way_to_them() -> None:
    inner = Workflow("inner")
    again = inner.node(Going(Weighing()), name="again")
    inner.source(ChannelSource(Line, capacity=1, key="article")).to(again)
    again.on(Round.DONE).to(Complete)

    messages = [str(problem).partition("  ")[2] for problem in outer_of(inner)[0].check()]
    assert "weigh/again: action Round.AGAIN has no route. Add: again.on(Round.AGAIN).to(...)" in messages


def test_a_workflow_is_not_mapped_inside_itself() -> None:
    workflow = Workflow("outer")
    mapping = workflow.node(Map(workflow, list[Line]), name="map")
    workflow.source(ChannelSource(list[Line], capacity=1, key=str)).to(mapping)
    mapping.to(Complete)

    assert "map: the workflow 'outer' is inside itself" in only(workflow)


def test_a_plan_is_made_anew_when_a_mapped_workflow_has_grown() -> None:
    weighing = Weighing()
    workflow, *_ = outer_of(weighing.workflow)
    plan = workflow.compile()
    assert workflow.compile() is plan
    weighing.workflow.node(counted_plain)
    with pytest.raises(WorkflowError, match="weigh/counted_plain: no source reaches it"):
        workflow.compile()


def test_a_time_out_of_the_map_is_for_all_of_its_items() -> None:
    inner = Workflow("inner")
    inner.source(ChannelSource(Line, capacity=1, key="article")).to(inner.node(sleeping))
    workflow = Workflow("outer")
    orders = workflow.source(KafkaSource("orders", Order, key="number"))
    mapping = workflow.node(Map(inner, Order, items=lambda order: order.lines), name="weigh", timeout=SECOND / 50)
    orders.to(mapping)
    mapping.to(None)

    with Harness(workflow) as harness:
        harness.send(orders, Order("7", [Line("tea")]))
        assert [(letter.node, letter.reason) for letter in harness.dead_letters] == [("weigh", "timeout")]


async def sleeping(event: Event[Line], ctx: Context) -> Complete:
    await asyncio.sleep(3600)
    return Complete()


def test_a_picture_says_by_what_each_item_goes() -> None:
    assert 'node0["weigh (each item by weighing)"]' in outer_of(Weighing().workflow)[0].mermaid()
