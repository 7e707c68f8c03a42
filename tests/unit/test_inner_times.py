"""Time-outs and waits inside of workflows that are nodes: by inner run, whatever else goes on in its run."""

from __future__ import annotations

import random
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
    MessageSource,
    Retry,
    Terminate,
    Timeout,
    Workflow,
)
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS

SECOND = timedelta(seconds=1)
Fuse = Literal["all"] | None
FUSE: list[Fuse] = [None, "all"]


class Order(msgspec.Struct, frozen=True):
    customer: str
    cents: int


class Approval(msgspec.Struct, frozen=True):
    by: str


class Asked(msgspec.Struct):
    cents: list[int] = []
    by: list[str] = []


def outcome(event: Event[Complete], ctx: Context) -> str:
    return f"{event.key}: {event.data.result}"


def failed(event: Event[Failure], ctx: Context) -> str:
    return f"{event.key} failed: {event.data.error}"


def overdue(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key} late after {event.data.after.total_seconds():g}"


class Outer:
    """A workflow whose one node is the inner one; it says all outcomes."""

    def __init__(self, inner: Workflow, *outcomes: Any, **options: Any) -> None:
        self.workflow = workflow = Workflow("outer")
        self.orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        self.said = workflow.sink(KafkaSink("said", str))
        self.step = workflow.node(inner, name="step", **options)
        self.orders.to(self.step)
        for match in outcomes:
            takers: dict[Any, Any] = {Complete: outcome, Failure: failed, Timeout: overdue}
            node = workflow.node(takers[match])
            node.to(self.said)
            self.step.on(match).to(node)

    def order(self, harness: Harness, *cents: int, key: str = "ada") -> None:
        for each in cents:
            harness.send(self.orders, Order(key, each))


# Time-outs of inner runs.


def note(event: Event[Order], ctx: Context[None, Asked]) -> Complete | None:
    ctx.run.state.cents.append(event.data.cents)
    return Complete(ctx.run.state.cents) if event.data.cents == 0 else None


def noting(**times: timedelta) -> tuple[Workflow, Any]:
    inner = Workflow("noting", state=Asked)
    orders = inner.source(ChannelSource(Order, capacity=10, key="customer"))
    orders.to(inner.node(note))
    return inner, [inner.timeout(**{word: time}) for word, time in times.items()]


@pytest.mark.parametrize("fuse", FUSE)
def test_an_inner_run_times_out_after_its_first_event_and_changes_before_that_are_kept(fuse: Fuse) -> None:
    inner, _ = noting(total=10 * SECOND)
    outer = Outer(inner, Complete, Timeout)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        harness.advance(6 * SECOND)
        outer.order(harness, 2)
        assert harness.runs["ada"].state("step") == Asked([1, 2])
        harness.advance(6 * SECOND)
        assert harness.sent(outer.said) == ["ada late after 10"]
        assert harness.runs["ada"].status == "running", "the inner run has timed out, and not the run"

        outer.order(harness, 3, 0)
        assert harness.sent(outer.said)[1:] == ["ada: [3, 0]"], "a later event is the next inner run's"
        harness.advance(60 * SECOND)
        assert len(harness.sent(outer.said)) == 2, "one that has ended does not time out"


@pytest.mark.parametrize("fuse", FUSE)
def test_an_inner_run_is_idle_so_long_after_its_last_event(fuse: Fuse) -> None:
    inner, _ = noting(idle=10 * SECOND)
    outer = Outer(inner, Complete, Timeout)

    with Harness(outer.workflow, fuse=fuse) as harness:
        for cents in (1, 2, 3):
            outer.order(harness, cents)
            harness.advance(6 * SECOND)
        assert harness.sent(outer.said) == []
        harness.advance(5 * SECOND)
        assert harness.sent(outer.said) == ["ada late after 10"]


def remind(event: Event[Timeout], ctx: Context[None, Asked]) -> str:
    ctx.run.state.by.append("timeout")
    return f"reminded of {ctx.run.state.cents}"


@pytest.mark.parametrize("fuse", FUSE)
def test_a_time_out_with_a_route_ends_its_inner_run_only_where_that_does(fuse: Fuse) -> None:
    inner, (idle, total) = noting(idle=5 * SECOND, total=20 * SECOND)
    reminding = inner.node(remind)
    notes = inner.sink(KafkaSink("notes", str))
    idle.to(reminding)
    reminding.to(notes)
    total.to(Complete)
    outer = Outer(inner, Complete)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        harness.advance(6 * SECOND)
        assert harness.sent("step/notes") == ["reminded of [1]"]
        assert harness.runs["ada"].state("step") == Asked([1], ["timeout"]), "it goes on"
        harness.advance(10 * SECOND)
        assert harness.sent("step/notes") == ["reminded of [1]"], "told once for each time that it is idle"
        harness.advance(5 * SECOND)
        assert harness.sent(outer.said) == ["ada: {'after': 'PT20S'}"]


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_time_out_inside_comes_once_whatever_crashes(point: str, fuse: Fuse) -> None:
    inner, _ = noting(idle=10 * SECOND)
    outer = Outer(inner, Complete, Timeout)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        harness.crash_at(point)
        harness.advance(11 * SECOND)
        outer.order(harness, 2)

        assert harness.sent(outer.said, unique=True) == ["ada late after 10"]
        assert harness.runs["ada"].state("step") == Asked([2])


# Waits inside, for messages.


def ask(event: Event[Order], ctx: Context[None, Asked]) -> Order:
    ctx.run.state.cents.append(event.data.cents)
    return event.data


def decide(event: Event[Approval], ctx: Context[None, Asked]) -> Complete | Terminate:
    ctx.run.state.by.append(event.data.by)
    if event.data.by == "nobody":
        return Terminate("nobody approves")
    return Complete(f"{ctx.run.state.cents} by {event.data.by}")


class Approving:
    """Inner workflow: an order waits for an approval, which completes or terminates it.

    Args:
        timeout: Of the wait.
        beside: What else has the order; it tries again for a long time.
        approvals: Where approvals come from.
    """

    def __init__(self, timeout: timedelta | None = 10 * SECOND, beside: Any = None, approvals: Any = None) -> None:
        self.workflow = workflow = Workflow("approving", state=Asked)
        self.orders = workflow.source(ChannelSource(Order, capacity=10, key="customer"))
        self.approvals = workflow.source(approvals or MessageSource("approval", Approval))
        asking, deciding = workflow.node(ask), workflow.node(decide)
        self.wait = workflow.wait(self.approvals, timeout=timeout)
        if beside is None:
            self.orders.to(asking)
        else:
            retry = Retry(50, on=(OSError,), backoff=Linear(5 * SECOND))
            self.orders.to(asking, workflow.node(beside, retry=retry))
        asking.to(self.wait)
        self.wait.to(deciding)


ALL = (Complete, Failure, Timeout)


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_one_event_driven_node_as_a_step_returns_its_action_or_its_timeout_action(fuse: Fuse) -> None:
    inner = Approving()
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        assert harness.runs["ada"].waits_at == "step/approval"
        harness.send(inner.approvals, Approval("eve"), key="ada")
        assert harness.sent(outer.said) == ["ada: [1] by eve"]
        assert harness.runs["ada"].waits_at is None

        outer.order(harness, 2)
        harness.advance(11 * SECOND)
        assert harness.sent(outer.said)[1:] == ["ada late after 10"]
        assert harness.runs["ada"].waits_at is None

        harness.send(inner.approvals, Approval("bob"), key="ada")
        assert len(harness.sent(outer.said)) == 2, "nothing waits for it"
        outer.order(harness, 3)
        assert harness.sent(outer.said)[2:] == ["ada: [3] by bob"], "one that comes later is the next call's"
        harness.advance(60 * SECOND)
        assert len(harness.sent(outer.said)) == 3
        assert not harness.dead_letters


@pytest.mark.parametrize("fuse", FUSE)
def test_messages_that_come_early_are_kept_in_their_order_one_for_each_inner_run(fuse: Fuse) -> None:
    inner = Approving()
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        for by in ("eve", "bob", "nobody"):
            harness.send(inner.approvals, Approval(by), key="ada")
        outer.order(harness, 2, 3)

        assert harness.sent(outer.said) == [
            "ada: [1] by eve", "ada: [2] by bob", "ada failed: nobody approves",
        ]  # fmt: skip
        assert not harness.dead_letters
        assert harness.runs["ada"].state("step") == Asked()


@pytest.mark.parametrize("fuse", FUSE)
def test_a_message_for_no_run_is_a_dead_letter_whatever_waits_inside(fuse: Fuse) -> None:
    inner = Approving()
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        harness.send(inner.approvals, Approval("eve"), key="ada")
        assert [letter.reason for letter in harness.dead_letters] == ["no-run"]


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_wait_inside_survives_a_crash_at_every_point(point: str, fuse: Fuse) -> None:
    inner = Approving()
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        harness.crash_at(point)
        outer.order(harness, 1)
        harness.crash_at(point)
        harness.send(inner.approvals, Approval("eve"), key="ada")
        harness.send(inner.approvals, Approval("bob"), key="ada")
        harness.crash_at(point)
        outer.order(harness, 2, 3)
        harness.crash_at(point)
        harness.advance(11 * SECOND)

        assert harness.sent(outer.said, unique=True) == ["ada: [1] by eve", "ada: [2] by bob", "ada late after 10"]


class Kind(Action):
    PAY = "pay"
    SHIP = "ship"
    BOTH = "both"


def sort(event: Event[Order], ctx: Context) -> Kind:
    return {1: Kind.PAY, 2: Kind.SHIP}.get(event.data.cents, Kind.BOTH)


@pytest.mark.parametrize("fuse", FUSE)
def test_inner_runs_stand_at_their_waits_each_for_itself(fuse: Fuse) -> None:
    """The same workflow twice, and the outer one's own wait: none takes the run from another's wait."""
    inner = Approving()
    workflow = Workflow("outer")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    others = workflow.source(MessageSource("other", Approval))
    said = workflow.sink(KafkaSink("said", str))
    pay, ship = (
        workflow.node(inner.workflow, name="pay"),
        workflow.node(inner.workflow, name="ship", sources={inner.approvals: others}),
    )
    sorting, own = workflow.node(sort), workflow.wait(others, name="own")
    orders.to(sorting)
    sorting.on(Kind.PAY).to(pay)
    sorting.on(Kind.SHIP).to(ship)
    sorting.on(Kind.BOTH).to(own, pay, ship)
    own.to(None)
    for step in (pay, ship):
        done, bad, late = (workflow.node(of, name=f"{step.name}-{of.__name__}") for of in (outcome, failed, overdue))
        step.on(Complete).to(done)
        step.on(Failure).to(bad)
        step.on(Timeout).to(late)
        for node in (done, bad, late):
            node.to(said)

    with Harness(workflow, fuse=fuse) as harness:
        harness.send(orders, Order("ada", 3))
        assert harness.runs["ada"].waits_at == "own"
        assert harness.runs["ada"].stands_at == ["own", "pay/approval", "ship/approval"]
        harness.send(others, Approval("first"), key="ada")
        assert harness.runs["ada"].stands_at == ["pay/approval", "ship/approval"], "the outer workflow's comes first"
        harness.send(others, Approval("second"), key="ada")
        assert harness.sent(said) == ["ada: [3] by second"]
        assert harness.runs["ada"].stands_at == ["pay/approval"]
        harness.send(inner.approvals, Approval("third"), key="ada")
        assert harness.sent(said)[1:] == ["ada: [3] by third"]
        harness.send(orders, Order("ada", 1))
        harness.send(orders, Order("ada", 2))
        assert harness.runs["ada"].stands_at == ["pay/approval", "ship/approval"]
        harness.advance(11 * SECOND)
        assert harness.sent(said)[2:] == ["ada late after 10"] * 2


# Waits inside, for events.


def said_of(event: Event[Order], ctx: Context[None, Asked]) -> Complete:
    return Complete([*ctx.run.state.cents, event.data.cents])


@pytest.mark.parametrize("fuse", FUSE)
def test_a_wait_for_what_comes_in_itself_takes_the_next_event_of_the_inner_run(fuse: Fuse) -> None:
    inner = Workflow("pairs", state=Asked)
    orders = inner.source(ChannelSource(Order, capacity=10, key="customer"))
    asking, second = inner.node(ask), inner.node(said_of)
    wait = inner.wait(orders, timeout=10 * SECOND, name="second")
    orders.to(asking)
    asking.to(wait)
    wait.to(second)
    outer = Outer(inner, Complete, Timeout)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        assert harness.runs["ada"].waits_at == "step/second"
        outer.order(harness, 2, 3)
        harness.advance(11 * SECOND)
        outer.order(harness, 4, 5)

        assert harness.sent(outer.said) == ["ada: [1, 2]", "ada late after 10", "ada: [4, 5]"]


@pytest.mark.parametrize("fuse", FUSE)
def test_a_wait_for_a_source_of_the_outer_workflow_takes_its_next_event_else_its_route_does(fuse: Fuse) -> None:
    inner = Approving(approvals=ChannelSource(Approval, capacity=10, key="by", name="approval"))
    workflow = Workflow("outer")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    votes = workflow.source(KafkaSource("votes", Approval, key="by"))
    said = workflow.sink(KafkaSink("said", str))
    stray = workflow.sink(KafkaSink("stray", Approval))
    step = workflow.node(inner.workflow, name="step", sources={inner.approvals: votes})
    done = workflow.node(outcome)
    orders.to(step)
    votes.to(stray)
    step.on(Complete).to(done)
    step.on(Failure).to(None)
    step.on(Timeout).to(None)
    done.to(said)

    with Harness(workflow, fuse=fuse) as harness:
        harness.send(votes, Approval("ada"))
        harness.send(orders, Order("ada", 1))
        assert harness.runs["ada"].waits_at == "step/approval"
        harness.send(votes, Approval("ada"))
        harness.send(votes, Approval("ada"))

        assert harness.sent(said) == ["ada: [1] by ada"]
        assert harness.sent(stray) == [Approval("ada")] * 2


# Three deep, retries, replays.


def around(name: str, inner: Workflow, *, times_out: bool) -> Workflow:
    """A workflow whose node is another one, whose outcomes are its own."""
    workflow = Workflow(name)
    orders = workflow.source(ChannelSource(Order, capacity=10, key="customer"))
    node = workflow.node(inner, name="in")
    passing = workflow.node(passed)
    orders.to(node)
    node.on(Complete).to(passing)
    node.on(Failure).to(Terminate)
    if times_out:
        node.on(Timeout).to(Terminate)
    return workflow


def passed(event: Event[Complete], ctx: Context) -> Complete:
    return event.data


@pytest.mark.parametrize("fuse", FUSE)
def test_A_adapters_waits_and_times_work_three_deep_and_id_and_timeout_together(fuse: Fuse) -> None:
    inner = Approving(timeout=None)
    middle = around("b", inner.workflow, times_out=False)
    outer = Outer(around("a", middle, times_out=False), *ALL, timeout=30 * SECOND)

    with Harness(outer.workflow, fuse=fuse) as harness:
        for key in ("ada", "bob"):
            outer.order(harness, 1, key=key)
        assert harness.runs["ada"].waits_at == "step/in/in/approval"
        harness.send(inner.approvals, Approval("eve"), key="ada")
        harness.advance(31 * SECOND)
        assert harness.sent(outer.said) == ["ada: [1] by eve", "bob late after 30"]
        assert harness.runs["bob"].stands_at == [], "with the outer one, those inside have ended"

        harness.send(inner.approvals, Approval("nobody"), key="bob")
        outer.order(harness, 2, key="bob")
        assert harness.sent(outer.said)[2:] == ["bob failed: nobody approves"]


@pytest.mark.parametrize("fuse", FUSE)
def test_the_time_out_of_a_wait_three_deep_goes_on_level_by_level(fuse: Fuse) -> None:
    inner = Approving()
    middle = around("b", inner.workflow, times_out=True)
    outer = Outer(around("a", middle, times_out=False), Complete, Failure)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        harness.advance(11 * SECOND)
        assert harness.sent(outer.said) == ['ada failed: {"after":"PT10S"}']


def down(event: Event[Order], ctx: Context) -> None:
    raise OSError("down")


@pytest.mark.parametrize("fuse", FUSE)
def test_what_a_wait_is_for_and_its_end_pass_what_stands_still(fuse: Fuse) -> None:
    inner = Approving(beside=down)
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        assert len(harness.parked) == 1
        assert harness.runs["ada"].waits_at == "step/approval"
        harness.send(inner.approvals, Approval("eve"), key="ada")
        assert harness.sent(outer.said) == ["ada: [1] by eve"]
        assert not harness.parked, "what stood still of the inner run ended with it"

        outer.order(harness, 2)
        harness.advance(10 * SECOND)
        assert harness.sent(outer.said)[1:] == ["ada late after 10"]
        assert not harness.parked


@pytest.mark.parametrize("fuse", FUSE)
def test_a_message_that_is_none_is_a_dead_letter_and_the_inner_run_stands_on(fuse: Fuse) -> None:
    inner = Approving()
    outer = Outer(inner.workflow, *ALL)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        harness.send_raw(inner.approvals, b'{"by": 1}', key="ada")
        assert [letter.reason for letter in harness.dead_letters] == ["decode"]
        assert harness.runs["ada"].waits_at == "step/approval"
        harness.send(inner.approvals, Approval("eve"), key="ada")
        assert harness.sent(outer.said) == ["ada: [1] by eve"]


@pytest.mark.parametrize("fuse", FUSE)
def test_a_message_is_an_event_of_all_inner_runs_that_it_comes_into(fuse: Fuse) -> None:
    """Neither the inner run that waits, nor the one that it is inside of, is idle then."""
    inner = Workflow("inner", state=Asked)
    orders = inner.source(ChannelSource(Order, capacity=10, key="customer"))
    approvals = inner.source(MessageSource("approval", Approval))
    noting, wait = inner.node(note_by), inner.wait(approvals)
    orders.to(wait)
    wait.to(noting)
    noting.to(wait)
    inner.timeout(idle=10 * SECOND)
    middle = around("middle", inner, times_out=True)
    middle.timeout(idle=12 * SECOND)
    outer = Outer(middle, Complete, Failure, Timeout)

    with Harness(outer.workflow, fuse=fuse) as harness:
        outer.order(harness, 1)
        for _ in range(3):
            harness.advance(8 * SECOND)
            harness.send(approvals, Approval("eve"), key="ada")
        assert harness.runs["ada"].state("step/in") == Asked([], ["eve"] * 3)
        harness.advance(9 * SECOND)
        assert harness.sent(outer.said) == []
        harness.advance(2 * SECOND)
        assert harness.sent(outer.said) == ['ada failed: {"after":"PT10S"}']


def note_by(event: Event[Approval], ctx: Context[None, Asked]) -> Approval | Complete:
    ctx.run.state.by.append(event.data.by)
    return event.data


@pytest.mark.parametrize("fuse", FUSE)
def test_an_inner_run_stands_where_it_stood_when_its_node_has_another_name(fuse: Fuse) -> None:
    def version(name: str, former: str | None) -> tuple[Workflow, Any, Any, Any]:
        workflow = Workflow("outer", fuse=fuse)
        orders = workflow.source(KafkaSource("orders", Order, key="customer"))
        said = workflow.sink(KafkaSink("said", str))
        inner = Approving()
        step = workflow.node(inner.workflow, name=name, renamed_from=former)
        orders.to(step)
        done, late = workflow.node(outcome), workflow.node(overdue)
        step.on(Complete).to(done)
        step.on(Failure).to(None)
        step.on(Timeout).to(late)
        done.to(said)
        late.to(said)
        return workflow, orders, said, inner.approvals

    first, orders, _, _ = version("pay", None)
    with Harness(first) as harness:
        harness.send(orders, Order("ada", 1))
        harness.send(orders, Order("bob", 2))
        second, _, said, approvals = version("step", "pay")
        with Harness(second, on=harness) as after:
            after.send(approvals, Approval("eve"), key="ada")
            assert after.sent(said) == ["ada: [1] by eve"]
            after.advance(11 * SECOND)
            assert after.sent(said)[1:] == ["bob late after 10"]


# Random worlds, by hand.


class World:
    """Inner runs by hand: begun by orders, idle, too old, at their wait or not; messages kept for the outer run."""

    def __init__(self, wait: int, total: int) -> None:
        self.wait, self.total = wait, total
        self.said: dict[str, list[str]] = {key: [] for key in "ab"}
        self.runs: dict[str, dict[str, Any]] = {}
        self.no_run = 0

    def order(self, key: str, now: int) -> None:
        run = self.runs.setdefault(key, {"kept": [], "until": None, "end": None, "count": 0})
        run["end"] = run["end"] or now + self.total
        run["until"] = now + self.wait
        run["count"] += 1
        self.deliver(key, now)

    def message(self, key: str, by: str, now: int) -> None:
        if key not in self.runs:
            self.no_run += 1
            return
        self.runs[key]["kept"].append(by)
        self.deliver(key, now)

    def deliver(self, key: str, now: int) -> None:
        run = self.runs[key]
        while run["kept"] and run["until"] is not None:
            by = run["kept"].pop(0)
            if by == "nobody":
                self.over(key, f"{key} failed: nobody approves")
            elif by == "again":
                run["until"] = now + self.wait
            else:
                self.over(key, f"{key}: {run['count']} by {by}")

    def over(self, key: str, text: str) -> None:
        self.said[key].append(text)
        self.runs[key].update(until=None, end=None, count=0)

    def pass_to(self, now: int) -> None:
        while True:
            due = [
                (time, what == "end", key, what)
                for key, run in self.runs.items()
                for what in ("until", "end")
                if (time := run[what]) is not None and time <= now
            ]
            if not due:
                return
            _, _, key, what = min(due)
            if what == "end":
                self.over(key, f"{key} late after {self.total / 1000:g}")
            else:
                self.runs[key]["until"] = None


def counting(event: Event[Order], ctx: Context[None, Asked]) -> Order:
    ctx.run.state.cents.append(1)
    return event.data


class Word(Action):
    AGAIN = "again"


def deciding(event: Event[Approval], ctx: Context[None, Asked]) -> Word | Complete | Terminate:
    if event.data.by == "nobody":
        return Terminate("nobody approves")
    return Word.AGAIN if event.data.by == "again" else Complete(f"{len(ctx.run.state.cents)} by {event.data.by}")


@pytest.mark.parametrize("seed", range(60))
def test_what_happens_at_waits_inside_is_what_happens_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    wait, total = chance.sample([7, 11, 40, 90], 2)
    inner = Workflow("inner", state=Asked)
    orders = inner.source(ChannelSource(Order, capacity=10, key="customer"))
    approvals = inner.source(MessageSource("approval", Approval))
    count, decision = inner.node(counting), inner.node(deciding)
    place = inner.wait(approvals, timeout=timedelta(milliseconds=wait))
    inner.timeout(total=timedelta(milliseconds=total))
    orders.to(count)
    count.to(place)
    place.to(decision)
    place.on(Timeout).to(None)
    decision.on(Word.AGAIN).to(place)
    outer = Outer(inner, *ALL)
    world = World(wait, total)
    with Harness(outer.workflow, partitions=1, fuse=chance.choice(FUSE)) as harness:
        for _ in range(30):
            if chance.random() < 0.4:
                harness.crash_at(f"{chance.choice(CRASH_POINTS)}:{chance.randint(1, 4)}")
            harness.advance(timedelta(milliseconds=chance.choice([0, 1, 5, 20])))
            now = harness._engine.now
            world.pass_to(now)
            for _ in range(chance.choice([1, 1, 3])):
                key = chance.choice("ab")
                if chance.random() < 0.4:
                    outer.order(harness, 1, key=key)
                    world.order(key, now)
                else:
                    by = chance.choice(["ann", "bob", "again", "nobody"])
                    harness.send(approvals, Approval(by), key=key)
                    world.message(key, by, now)
        rows = list({row.id: row for row in harness.messages(outer.said)}.values())

        assert {key: [row.data for row in rows if row.key == key] for key in "ab"} == world.said
        assert sum(letter.reason == "no-run" for letter in harness.dead_letters) == world.no_run
        waiting = {key for key in "ab" if key in harness.runs and harness.runs[key].waits_at}
        assert waiting == {key for key, run in world.runs.items() if run["until"] is not None}


# Mistakes, pictures.


def only(workflow: Workflow) -> str:
    [problem] = workflow.check()
    assert problem.where.startswith("tests/unit/test_inner_times.py:")
    return str(problem).partition("  ")[2]


def test_times_of_an_inner_workflow_without_routes_are_outcomes_that_need_one() -> None:
    for inner in (noting(idle=SECOND)[0], noting(total=SECOND)[0]):
        assert only(Outer(inner, Complete).workflow).startswith("step: may end by timeout, at tests/unit/test_inner")
    assert only(Outer(Approving().workflow, Complete, Failure).workflow) == (
        f"step: may end by approval, at {Approving().wait._item.where}; that has no route."
        " Add: step.on(Timeout).to(...), or .to(None) to drop it"
    )
    assert "Timeout has a route, but there is no timeout=" in only(Outer(Approving(None).workflow, *ALL).workflow)


def test_what_sources_names_is_a_source_of_each_workflow_and_its_events_are_only_waited_for() -> None:
    inner = Approving(approvals=ChannelSource(Approval, capacity=10, key="by", name="approval"))
    stranger = Workflow("stranger").source(KafkaSource("votes", Approval, key="by"))

    assert "has 2 sources: order, approval; as a node it has one way in" in only(Outer(inner.workflow, *ALL).workflow)
    outer = Outer(inner.workflow, *ALL, sources={stranger: stranger, inner.approvals: stranger})
    messages = [str(problem).partition("  ")[2] for problem in outer.workflow.check()]
    assert messages == [
        "step: sources= names 'votes', which is no source of the workflow 'approving'."
        " Write sources={source of 'approving': source of 'outer'}",
        "step: sources= gives approval the events of 'votes', which is no source of this workflow."
        " Name what outer.source(...) gave back",
    ]
    assert "names 3, which is no source" in only(Outer(Approving().workflow, *ALL, sources=3).workflow)

    outer = Outer(inner.workflow, *ALL)
    outer.workflow._graph.nodes[0].bound = ((inner.approvals._start, outer.orders._start),)
    assert only(outer.workflow).startswith("step: orders gives Order, but approval of it is a source of Approval")


def test_a_source_that_is_waited_for_inside_has_no_route_there() -> None:
    inner = Approving(approvals=ChannelSource(Approval, capacity=10, key="by", name="approval"))
    inner.approvals.to(None)
    workflow = Workflow("outer")
    votes = workflow.source(KafkaSource("votes", Approval, key="by"))
    step = workflow.node(inner.workflow, name="step", sources={inner.approvals: votes})
    workflow.source(KafkaSource("orders", Order, key="customer")).to(step)
    for match in ALL:
        step.on(match).to(None)

    assert only(workflow).startswith("step: approval is among its sources=, and what comes of those goes on from waits")


def test_nothing_inside_waits_for_what_comes_in_by_the_node_around_it() -> None:
    inner = Workflow("inner")
    more = inner.source(ChannelSource(Order, capacity=10, key="customer", name="more"))
    wait = inner.wait(more)
    inner.source(ChannelSource(Order, capacity=10, key="customer")).to(wait)
    wait.to(Complete)
    middle = Workflow("middle")
    orders = middle.source(ChannelSource(Order, capacity=10, key="customer"))
    node = middle.node(inner, name="in", sources={more: orders})
    orders.to(node)
    node.on(Complete).to(Complete)

    assert middle.check() == [], "by itself it may"
    assert only(Outer(middle, Complete).workflow).startswith(
        "step: in waits for events of order, which come in by step itself"
    )


def test_messages_of_one_name_are_of_one_type() -> None:
    outer = Outer(Approving().workflow, *ALL)
    outer.workflow.source(MessageSource("approval", Order))
    assert only(outer.workflow).startswith("step: approval gives Order, but approval of it is a source of Approval")

    outer = Outer(Approving().workflow, *ALL)
    outer.workflow.source(ChannelSource(Approval, capacity=1, key="by", name="approval")).to(None)
    assert only(outer.workflow).startswith("step: its messages are called 'approval', as is another source")

    outer = Outer(Approving().workflow, *ALL)
    outer.workflow.source(MessageSource("approval", Approval))
    assert outer.workflow.check() == [], "the outer workflow's own source of messages may be waited for inside only"


def test_sources_are_for_workflows_only() -> None:
    workflow = Workflow("outer")
    orders = workflow.source(KafkaSource("orders", Order, key="customer"))
    node = workflow.node(sort, sources={orders: orders})
    orders.to(node)
    for kind in Kind:
        node.on(kind).to(None)

    assert only(workflow).startswith("sort: sources= is for nodes that are workflows")


def test_pictures_have_waits_and_time_outs_in_the_box() -> None:
    inner = Approving()
    inner.workflow.timeout(total=60 * SECOND).to(Complete)
    chart = Outer(inner.workflow, *ALL).workflow.mermaid()

    box = chart[chart.index("subgraph box_node0") : chart.index("  end\n")]
    assert 'wait0{{"step/approval, 0:00:10"}}' in box
    assert 'timeout0(["timeout"])' in box
    assert "timeout0 --> complete_node0" in chart
    assert 'source1(["messages: approval"])' in chart
    dot = Outer(inner.workflow, *ALL).workflow.graphviz()
    assert '    wait0 [label="step/approval, 0:00:10", shape=hexagon];' in dot
    outline = Outer(inner.workflow, *ALL).workflow.outline()
    assert {part.name: part.inside for part in outline.parts}["step/approval"] == "node0"
