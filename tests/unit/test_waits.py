"""Waits: where runs stand, what goes on from there, messages that come early or too late."""

import random
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import Complete, Context, Event, KafkaSink, KafkaSource, MessageSource, Node, Retry, Timeout, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS

Fuse = Literal["all"] | None
SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    id: str
    total: float = 0


class Approval(msgspec.Struct, frozen=True):
    by: str


class Desk(msgspec.Struct):
    orders: int = 0
    approvals: list[str] = []


def ask(event: Event[Order], ctx: Context[None, Desk]) -> Order:
    ctx.run.state.orders += 1
    return event.data


def decide(event: Event[Approval], ctx: Context[None, Desk]) -> str:
    ctx.run.state.approvals.append(event.data.by)
    if event.data.by == "nobody":
        raise ValueError("nobody approves")
    return f"{event.key}: {event.data.by}"


def expire(event: Event[Timeout], ctx: Context[None, Desk]) -> str:
    return f"{event.key}: nobody within {event.data.after.total_seconds():g} s, at {ctx.now:%M:%S}"


def approving(fuse: Fuse = None, *, timeout: timedelta | None = 60 * SECOND, ends: bool = True) -> Any:
    """Workflow, orders, approvals, said: an order waits for an approval; with `ends` that completes it."""
    workflow = Workflow("orders", state=Desk, fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    approvals = workflow.source(MessageSource("approval", Approval))
    said = workflow.sink(KafkaSink("said", str))
    asked, decided = workflow.node(ask), workflow.node(decide)
    approval = workflow.wait(approvals, timeout=timeout)
    orders.to(asked)
    asked.to(approval)
    approval.to(decided)
    if timeout is not None:
        expired = workflow.node(expire)
        approval.on(Timeout).to(expired)
        expired.to(said)
    if ends:
        decided.to(said, Complete)
    else:
        decided.to(said, approval)
    return workflow, orders, approvals, said


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


def stored(harness: Harness) -> tuple[list[str], list[str]]:
    """Members of the index of timers, and events that stand still or are kept."""
    store, numbers = harness._engine.store, range(harness._partitions)
    return (
        [member for number in numbers for member, _ in store.timers(number, 1 << 62, 1000)[0]],
        [field for number in numbers for field in store.parked_fields(number)],
    )


def test_a_message_goes_on_from_the_wait_that_its_run_stands_at(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        assert harness.runs["o1"].waits_at == "approval"
        harness.send(approvals, Approval("ann"), key="o1")

        assert harness.sent(said) == ["o1: ann"]
        assert harness.runs["o1"].status == "completed"
        assert stored(harness) == ([], [])


def test_M10_a_message_that_comes_before_its_run_waits_is_kept(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse, ends=False)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        for by in ("ann", "bob", "cat"):
            harness.send(approvals, Approval(by), key="o1")

        assert harness.sent(said) == ["o1: ann", "o1: bob", "o1: cat"]
        assert harness.runs["o1"].shared.approvals == ["ann", "bob", "cat"]


def two_waits(fuse: Fuse) -> Any:
    workflow = Workflow("both", fuse=fuse, state=Desk)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    a, t = workflow.source(MessageSource("a", Approval)), workflow.source(MessageSource("t", Approval))
    said = workflow.sink(KafkaSink("said", str))
    asked = workflow.node(ask)
    on_t, on_a1, on_a2 = workflow.wait(t), workflow.wait(a, name="a1"), workflow.wait(a, name="a2")
    took_t, took_a1, took_a2 = (workflow.node(decide, name=name) for name in ("took_t", "took_a1", "took_a2"))
    orders.to(asked)
    asked.to(on_t)
    on_t.to(took_t)
    took_t.to(said, on_a1)
    on_a1.to(took_a1)
    took_a1.to(said, on_a2)
    on_a2.to(took_a2)
    took_a2.to(said, Complete)
    return workflow, orders, a, t, said


def test_M1_messages_are_for_waits_by_name_and_keep_their_order(fuse: Fuse) -> None:
    workflow, orders, a, t, said = two_waits(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(a, Approval("m1"), key="o1")
        harness.send(a, Approval("m3"), key="o1")
        assert harness.sent(said) == []
        assert [row.reason for row in harness.parked] == ["early", "early"]
        harness.send(t, Approval("m2"), key="o1")

        assert harness.sent(said) == ["o1: m2", "o1: m1", "o1: m3"]
        assert harness.runs["o1"].status == "completed"
        assert stored(harness) == ([], [])


def test_M2_a_message_to_a_run_that_is_not_there_or_has_ended_is_a_dead_letter(fuse: Fuse) -> None:
    workflow, orders, approvals, _ = approving(fuse)
    with Harness(workflow) as harness:
        harness.send(approvals, Approval("ann"), key="o1")
        assert list(harness.runs) == []
        harness.send(orders, Order("o1"))
        harness.send(approvals, Approval("bob"), key="o1")
        harness.send(approvals, Approval("cat"), key="o1")

        assert [(letter.reason, letter.key, letter.source) for letter in harness.dead_letters] == [
            ("no-run", "o1", "approval"), ("no-run", "o1", "approval"),
        ]  # fmt: skip
        harness.send(orders, Order("o1"))
        harness.replay(*harness.dead_letters[:1])
        assert harness.runs["o1"].shared.approvals == ["ann"]


@pytest.mark.parametrize("restart", [False, True])
def test_M4_a_wait_is_over_in_time_also_across_a_restart(fuse: Fuse, restart: bool) -> None:
    workflow, orders, approvals, said = approving(fuse, timeout=SECOND)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.advance(SECOND / 2)
        if restart:
            harness.outage(SECOND / 4)
            harness.advance(SECOND / 4 - timedelta(milliseconds=1))
        else:
            harness.advance(SECOND / 2 - timedelta(milliseconds=1))
        assert harness.sent(said) == []
        harness.advance(timedelta(milliseconds=1))

        assert harness.sent(said) == ["o1: nobody within 1 s, at 00:01"]
        assert harness.runs["o1"].waits_at is None
        harness.send(approvals, Approval("late"), key="o1")  # the run goes on: it is kept for another wait
        assert [row.reason for row in harness.parked] == ["early"]
        assert stored(harness)[0] == []


def test_a_wait_without_a_route_for_its_timeout_ends_the_run(fuse: Fuse) -> None:
    workflow = Workflow("orders", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    approvals = workflow.source(MessageSource("approval", Approval))
    approval = workflow.wait(approvals, timeout=SECOND)
    orders.to(approval)
    approval.to(Complete)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(orders, Order("o2"))
        harness.send(approvals, Approval("ann"), key="o2")
        harness.advance(SECOND)

        assert {key: harness.runs[key].status for key in ("o1", "o2")} == {"o1": "timed out", "o2": "completed"}
        assert harness.runs["o2"].result == {"by": "ann"}
        assert stored(harness) == ([], [])


def test_M14_a_message_that_cannot_be_decoded_is_a_dead_letter_and_the_next_is_delivered(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send_raw(approvals, b'{"by": 5}', key="o1")
        assert harness.runs["o1"].waits_at == "approval"
        harness.send(approvals, Approval("ann"), key="o1")

        assert [letter.reason for letter in harness.dead_letters] == ["decode"]
        assert harness.sent(said) == ["o1: ann"]


def test_what_can_not_be_decoded_leaves_the_end_of_a_wait_where_it_was(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.advance(40 * SECOND)
        harness.send_raw(approvals, b'{"by": 5}', key="o1")
        harness.advance(19 * SECOND)
        assert harness.runs["o1"].waits_at == "approval"
        harness.advance(SECOND)

        assert harness.sent(said) == ["o1: nobody within 60 s, at 01:00"]
        assert stored(harness) == ([], [])


def test_messages_kept_behind_one_that_can_not_be_decoded_go_on(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse, ends=False)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(approvals, Approval("ann"), key="o1")
        with harness.batch():
            for text in (b'{"by": 5}', b"{", b'{"by": "bob"}', b'{"by": 6}', b'{"by": "cid"}'):
                harness.send_raw(approvals, text, key="o1")

        assert harness.sent(said) == ["o1: ann", "o1: bob", "o1: cid"]
        assert [letter.reason for letter in harness.dead_letters] == ["decode"] * 3
        assert harness.runs["o1"].waits_at == "approval"


def test_M7_the_same_message_id_is_delivered_once(fuse: Fuse) -> None:
    workflow, orders, approvals, said = approving(fuse, ends=False)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        for _ in range(3):
            harness.send(approvals, Approval("ann"), key="o1", id="m1")

        assert harness.sent(said) == ["o1: ann"]


@pytest.mark.parametrize("together", [False, True])
def test_messages_that_were_kept_for_a_run_are_not_for_the_next_of_its_key(fuse: Fuse, together: bool) -> None:
    workflow, orders, a, t, said = two_waits(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        for by in ("m1", "m2", "m3", "m4"):
            harness.send(a, Approval(by), key="o1")
        if together:
            with harness.batch():
                harness.send(t, Approval("t1"), key="o1")
                harness.send(orders, Order("o1"))
        else:
            harness.send(t, Approval("t1"), key="o1")
        harness.send(orders, Order("o1"))
        harness.send(t, Approval("t2"), key="o1")

        if together:  # the second order has brought the run back to the first wait, before m1 could go on
            assert harness.sent(said) == ["o1: t1", "o1: t2", "o1: m1", "o1: m2"]
        else:
            assert harness.sent(said) == ["o1: t1", "o1: m1", "o1: m2", "o1: t2"]
        assert [letter.reason for letter in harness.dead_letters] == ["no-run", "no-run"]
        assert stored(harness)[1] == []


@pytest.mark.parametrize("again", [False, True])
def test_messages_that_are_kept_when_their_run_ends_are_dead_letters(fuse: Fuse, again: bool) -> None:
    workflow, orders, a, t, said = two_waits(fuse)
    workflow.timeout(total=60 * SECOND)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(a, Approval("m1"), key="o1")
        harness.send(a, Approval("m2"), key="o1")
        if again:
            harness._engine.now += 60_000
            with harness.batch():  # the time-out comes behind it, in the same moment
                harness.send(orders, Order("o1"))
        else:
            harness.advance(60 * SECOND)
            assert [letter.reason for letter in harness.dead_letters] == ["no-run", "no-run"]
        harness.send(orders, Order("o1"))
        harness.send(t, Approval("t1"), key="o1")

        assert harness.sent(said) == ["o1: t1"]
        assert [letter.reason for letter in harness.dead_letters] == ["no-run", "no-run"]
        assert stored(harness)[1] == []


def test_a_message_goes_behind_those_that_were_kept(fuse: Fuse) -> None:
    workflow, orders, a, t, said = two_waits(fuse)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(a, Approval("m1"), key="o1")
        with harness.batch():
            harness.send(t, Approval("t1"), key="o1")
            harness.send(a, Approval("m2"), key="o1")

        assert harness.sent(said) == ["o1: t1", "o1: m1", "o1: m2"]


# An ordinary source


class Step(msgspec.Struct, frozen=True):
    session: str
    text: str


def session(fuse: Fuse) -> Any:
    """What comes after a question goes elsewhere: a session is a state machine."""
    workflow = Workflow("session", fuse=fuse)
    steps = workflow.source(KafkaSource("steps", Step, key="session"))
    said = workflow.sink(KafkaSink("said", str))

    def listen(event: Event[Step], ctx: Context) -> Step | None:
        return event.data if event.data.text.endswith("?") else None

    def answer(event: Event[Step], ctx: Context) -> str:
        return f"answer {event.data.text}"

    listening, answering = workflow.node(listen), workflow.node(answer)
    reply = workflow.wait(steps, name="reply", timeout=10 * SECOND)
    steps.to(listening)
    listening.to(reply)
    reply.to(answering)
    reply.on(Timeout).to(None)
    answering.to(said)
    return workflow, steps, said


def test_the_next_event_of_an_ordinary_source_goes_on_from_the_wait(fuse: Fuse) -> None:
    workflow, steps, said = session(fuse)
    with Harness(workflow) as harness:
        harness.send_all(steps, [Step(key, text) for text in ("hello", "well?", "yes", "no", "so?") for key in "ab"])
        harness.send(steps, Step("a", "indeed?"))
        harness.advance(10 * SECOND)
        harness.send(steps, Step("b", "too late"))
        harness.send(steps, Step("a", "this?"))
        harness.send(steps, Step("a", "that"))

        said_by = {key: [row.data for row in harness.messages(said) if row.key == key] for key in "ab"}
        assert said_by == {"a": ["answer yes", "answer indeed?", "answer that"], "b": ["answer yes"]}


def test_the_awaited_message_passes_what_stands_still(fuse: Fuse) -> None:
    workflow = Workflow("orders", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    approvals = workflow.source(MessageSource("approval", Approval))
    said = workflow.sink(KafkaSink("said", str))

    def flaky(event: Event[Order], ctx: Context) -> Order:
        if event.data.total and ctx.attempt < 3:
            raise OSError("not now")
        return event.data

    def approve(event: Event[Approval], ctx: Context) -> str:
        return event.data.by

    asked = workflow.node(flaky, retry=Retry(5, backoff=lambda failures: 60 * SECOND))
    approval = workflow.wait(approvals)
    done = workflow.node(approve)
    orders.to(asked)
    asked.to(approval)
    approval.to(done)
    done.to(said)
    with Harness(workflow) as harness:
        harness.send(orders, Order("o1"))
        harness.send(orders, Order("o1", 5))  # stands still
        harness.send(approvals, Approval("ann"), key="o1")
        assert harness.sent(said) == ["ann"]
        harness.send(approvals, Approval("bob"), key="o1")
        assert harness.sent(said) == ["ann"]
        harness.advance(200 * SECOND)

        assert harness.sent(said) == ["ann", "bob"]


# Messages from nodes


class Ping(Node[Order, Desk, None]):
    def process(self, event: Event[Order], ctx: Context[Desk]) -> None:
        ctx.state.orders += 1
        for number in range(3):
            ctx.send(f"r{int(event.data.total)}", "approval", Approval(f"{event.data.id}.{number}"))
        if event.data.id == "bad":
            ctx.send("r1", "approval", {"by": 5})
        if event.data.id == "worse":
            ctx.send("r1", "other", Approval("x"))


def sending(fuse: Fuse) -> Any:
    workflow = Workflow("sending", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    starts = workflow.source(KafkaSource("starts", Order, key="id"))
    approvals = workflow.source(MessageSource("approval", Approval))
    said = workflow.sink(KafkaSink("said", str))
    ping = workflow.node(Ping())
    took = workflow.node(lambda_decide, name="took")
    approval = workflow.wait(approvals)
    orders.to(ping)
    starts.to(approval)
    approval.to(took)
    took.to(said, approval)
    return workflow, orders, starts, said


def lambda_decide(event: Event[Approval], ctx: Context) -> str:
    return f"{event.key} {event.data.by}"


def test_a_node_sends_messages_to_runs_of_other_partitions(fuse: Fuse) -> None:
    workflow, orders, starts, said = sending(fuse)
    with Harness(workflow) as harness:
        harness.send_all(starts, [Order(f"r{number}") for number in range(8)])
        harness.send_all(orders, [Order(f"from{number}", number) for number in range(8)])

        assert sorted(harness.sent(said)) == [f"r{n} from{n}.{i}" for n in range(8) for i in range(3)]
        assert [row for row in harness.sent(said) if row.startswith("r3")] == [f"r3 from3.{i}" for i in range(3)]


def test_a_message_that_cannot_be_is_an_error_of_its_event(fuse: Fuse) -> None:
    workflow, orders, starts, said = sending(fuse)
    with Harness(workflow) as harness:
        harness.send(starts, Order("r1"))
        harness.send_all(orders, [Order("bad", 1), Order("worse", 1)])

        assert harness.sent(said) == []
        assert ["has no MessageSource 'other'" in row.error for row in harness.dead_letters].count(True) == 1
        assert len(harness.dead_letters) == 2


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("turn", ["", ":2", ":3", ":5"])
def test_messages_arrive_once_wherever_the_process_dies(point: str, turn: str, fuse: Fuse) -> None:
    workflow, orders, starts, said = sending(fuse)
    with Harness(workflow, partitions=2) as harness:
        harness.crash_at(point + turn)
        harness.send_all(starts, [Order(f"r{number}") for number in range(3)])
        harness.send_all(orders, [Order("one", 1), Order("two", 2)])

        assert sorted(harness.sent(said, unique=True)) == [
            *(f"r1 one.{i}" for i in range(3)), *(f"r2 two.{i}" for i in range(3)),
        ]  # fmt: skip


# Random worlds, by hand


class World:
    """Sessions by hand: each run at a wait or not, messages kept in order, time-outs in their moment."""

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout
        self.said: dict[str, list[str]] = {key: [] for key in "ab"}
        self.runs: dict[str, dict[str, Any]] = {}
        self.no_run = 0

    def order(self, key: str, now: int) -> None:
        run = self.runs.setdefault(key, {"kept": [], "due": None})
        run["due"] = now + self.timeout
        self.deliver(key, now)

    def message(self, key: str, by: str, now: int) -> None:
        if key not in self.runs:
            self.no_run += 1
            return
        self.runs[key]["kept"].append(by)
        self.deliver(key, now)

    def deliver(self, key: str, now: int) -> None:
        run = self.runs[key]
        while run["kept"] and run["due"] is not None:
            by = run["kept"].pop(0)
            run["due"] = None
            if by == "nobody":
                continue
            self.said[key].append(f"{key}: {by}")
            if by == "end":
                self.no_run += len(run["kept"])
                del self.runs[key]
                return
            run["due"] = now + self.timeout

    def pass_to(self, now: int) -> None:
        for key, run in self.runs.items():
            if run["due"] is not None and run["due"] <= now:
                self.said[key].append(f"{key}: over at {run['due'] % 10**7}")
                run["due"] = None


def deciding(event: Event[Approval], ctx: Context) -> str | Approval:
    if event.data.by == "nobody":
        raise ValueError("nobody")
    return Approval(event.data.by) if event.data.by == "end" else event.data.by


def by_whom(event: Event[Approval], ctx: Context) -> str | Complete:
    return f"{event.key}: {event.data.by}"


def line(event: Event[str], ctx: Context) -> str:
    return f"{event.key}: {event.data}"


def over(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key}: over at {event.time_ms % 10**7}"


def random_world(timeout: int, fuse: Fuse) -> Any:
    workflow = Workflow("random", fuse=fuse)
    orders = workflow.source(KafkaSource("orders", Order, key="id"))
    approvals = workflow.source(MessageSource("approval", Approval))
    said = workflow.sink(KafkaSink("said", str))
    decided, ended = workflow.node(deciding), workflow.node(by_whom)
    lines, expired = workflow.node(line), workflow.node(over)
    approval = workflow.wait(approvals, timeout=timedelta(milliseconds=timeout))
    orders.to(approval)
    approval.to(decided)
    approval.on(Timeout).to(expired)
    expired.to(said)
    decided.on(Approval).to(ended)
    ended.to(said, Complete)
    decided.on(str).to(lines, approval)
    lines.to(said)
    return workflow, orders, approvals, said


@pytest.mark.parametrize("seed", range(150))
def test_what_happens_at_waits_is_what_happens_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    timeout = chance.choice([3, 10, 40])
    workflow, orders, approvals, said = random_world(timeout, chance.choice([None, "all"]))
    world = World(timeout)
    with Harness(workflow, partitions=1) as harness:
        for _ in range(40):
            if chance.random() < 0.4:
                harness.crash_at(f"{chance.choice(CRASH_POINTS)}:{chance.randint(1, 4)}")
            harness.advance(timedelta(milliseconds=chance.choice([0, 1, 5, 20])))
            now = harness._engine.now
            world.pass_to(now)
            for _ in range(chance.choice([1, 1, 3])):
                key = chance.choice("ab")
                if chance.random() < 0.3:
                    harness.send(orders, Order(key))
                    world.order(key, now)
                else:
                    by = chance.choice(["ann", "bob", "cat", "nobody", "end"])
                    harness.send(approvals, Approval(by), key=key)
                    world.message(key, by, now)
        rows = list({row.id: row for row in harness.messages(said)}.values())

        assert {key: [row.data for row in rows if row.key == key] for key in "ab"} == world.said
        assert sum(letter.reason == "no-run" for letter in harness.dead_letters) == world.no_run
        waiting = {key for key in "ab" if key in harness.runs and harness.runs[key].waits_at}
        assert waiting == {key for key, run in world.runs.items() if run["due"] is not None}
