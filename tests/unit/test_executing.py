"""Nodes executed out of line: the answer is what the node makes of it, and nothing else has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import (
    Action,
    BatchNode,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    Map,
    MessageSource,
    Node,
    Reject,
    RequestSource,
    Retry,
    Terminate,
    Timer,
    Workflow,
)
from headrace.testing import ExecutionFailed, Harness, HarnessError
from headrace.testing.streams import StreamsInMemory
from headrace.workflows.envelope import RequestAnswer, decode
from headrace.workflows.executing import source_of
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

Fuse = Literal["all"] | None
FUSES = pytest.mark.parametrize("fuse", [None, "all"])


class Order(msgspec.Struct, frozen=True):
    what: str


class Approval(msgspec.Struct, frozen=True):
    by: str


class Count(msgspec.Struct):
    seen: list[str] = []


class Way(Action):
    ASK = "ask"
    END = "end"


class Take(Node[Order, Count, "Way | None"]):
    """Notes what it has seen, and does what the order says."""

    def process(self, event: Event[Order], ctx: Context[Count]) -> Way | None:
        what = event.data.what
        ctx.state.seen.append(what)
        ctx.reply(len(ctx.state.seen))
        ctx.set_value("last", what)
        ctx.set_timer("later", after=timedelta(minutes=1))
        if what == "fail":
            raise ValueError("no such order")
        if what == "refuse":
            raise Reject("not sold here")
        return {"ask": Way.ASK, "end": Way.END}.get(what)

    def on_timer(self, timer: Timer, ctx: Context[Count]) -> None:
        ctx.state.seen.append(timer.name)


class Desk:
    """A run of it waits for an approval once it has been asked to."""

    def __init__(self, **options: Any) -> None:
        self.workflow = Workflow("desk")
        self.requests: SourceHandle[Order] = self.workflow.source(RequestSource(Order))
        self.approvals: SourceHandle[Approval] = self.workflow.source(MessageSource("approval", Approval))
        self.sink: SinkHandle[Approval] = self.workflow.sink(KafkaSink("approved", Approval))
        self.take: NodeHandle[Order, Any] = self.workflow.node(Take(), **options)
        wait = self.workflow.wait(self.approvals, name="waits")
        decide = self.workflow.node(finish, name="decide")
        self.requests.to(self.take)
        self.take.on(Way.ASK).to(wait)
        self.take.on(Way.END).to(Complete)
        wait.to(self.sink, decide)

    def waiting(self, fuse: Fuse = None) -> Harness:
        """With the run `k`, which waits."""
        harness = Harness(self.workflow, fuse=fuse)
        harness.request(self.requests, Order("ask"), key="k")
        assert harness.runs["k"].stands_at == ["waits"]
        return harness


def finish(event: Event[Approval], ctx: Context) -> Complete:
    return Complete(event.data.by)


@FUSES
def test_B32_a_node_is_executed_three_times_on_a_waiting_run_which_then_goes_on(fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        before = dict(harness.runs["k"]._fields)
        results = [harness.runs["k"].execute(desk.take, Order(what)) for what in ("ask", "end", "other")]
        with pytest.raises(ExecutionFailed) as failure:
            harness.runs["k"].execute(desk.take, Order("fail"))
        with pytest.raises(HarnessError, match="nobody"):
            harness.runs["k"].execute("nobody", Order("ask"))

        assert [(row.returned, row.action, row.reply) for row in results] == [
            ("action", "ASK", 2), ("action", "END", 2), ("nothing", "", 2),
        ]  # fmt: skip
        assert (failure.value.node, failure.value.reason) == ("take", "error")
        assert "no such order" in failure.value.error
        assert dict(harness.runs["k"]._fields) == before
        assert harness.dead_letters == []

        harness.send(desk.approvals, Approval("ann"), key="k")
        assert (harness.runs["k"].status, harness.runs["k"].result) == ("completed", "ann")
        assert harness.sent(desk.sink) == [Approval("ann")]


@FUSES
def test_what_a_committed_execution_does_is_kept_and_what_it_returns_goes_nowhere(fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        done = harness.runs["k"].execute(desk.take, Order("end"), commit=True)
        run = harness.runs["k"]

        assert (done.committed, done.action, done.reply) == (True, "END", 2)
        assert (run.status, run.stands_at) == ("running", ["waits"])
        assert run.state(desk.take).seen == ["ask", "end"]
        assert (run.values, run.version("last")) == ({"last": "end"}, 2)
        harness.advance(timedelta(minutes=2))
        assert harness.runs["k"].state(desk.take).seen == ["ask", "end", "later"]


@FUSES
def test_a_committed_execution_that_fails_keeps_nothing(fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        for what in ("fail", "refuse"):
            with pytest.raises(ExecutionFailed):
                harness.runs["k"].execute(desk.take, Order(what), commit=True)
        run = harness.runs["k"]

        assert (run.state(desk.take).seen, run.version("last")) == (["ask"], 1)
        assert run.execute(desk.take, Order("x"), commit=True).reply == 2, "nor does its process"
        assert harness.runs["k"].state(desk.take).seen == ["ask", "x"]


def test_a_node_that_fails_is_not_tried_again() -> None:
    desk = Desk(retry=Retry(5))
    with desk.waiting() as harness:
        with pytest.raises(ExecutionFailed) as failure:
            harness.runs["k"].execute(desk.take, Order("fail"))

        assert failure.value.reason == "error"
        assert harness.parked == []


def test_it_passes_what_stands_still_of_its_run_and_does_not_disturb_it() -> None:
    desk = Desk(retry=Retry(5))
    with desk.waiting() as harness:
        harness.send(desk.requests, Order("fail"), key="k")
        harness.send(desk.requests, Order("behind"), key="k")
        stood = [row.id for row in harness.parked]
        done = harness.runs["k"].execute(desk.take, Order("x"))

        assert len(stood) == 2
        assert done.reply == 2
        assert [row.id for row in harness.parked] == stood


def test_data_that_the_node_does_not_take_are_the_callers_affair() -> None:
    desk = Desk()
    with desk.waiting() as harness:
        with pytest.raises(ExecutionFailed) as failure:
            harness.runs["k"].execute(desk.take, {"other": 1})

        assert (failure.value.reason, harness.dead_letters) == ("decode", [])


def test_a_run_that_has_ended_executes_nothing_and_does_not_begin_anew() -> None:
    desk = Desk()
    with desk.waiting() as harness:
        run = harness.runs["k"]
        harness.request(desk.requests, Order("end"), key="k")
        with pytest.raises(ExecutionFailed) as failure:
            run.execute(desk.take, Order("x"))

        assert failure.value.reason == "late"
        assert (harness.runs["k"].status, harness.runs["k"].number) == ("completed", run.number)


def test_events_behind_an_execution_of_a_run_that_has_ended_begin_the_next_one() -> None:
    desk = Desk()
    with desk.waiting() as harness:
        run = harness.runs["k"]
        harness.request(desk.requests, Order("end"), key="k")
        with harness.batch():
            asked = lay(harness, Order("x"))
            harness.send(desk.requests, Order("new"), key="k")

        assert answer_to(harness, asked).reason == "late"
        assert harness.runs["k"].number == run.number + 1
        assert (harness.runs["k"].status, harness.runs["k"].state(desk.take).seen) == ("running", ["new"])


@FUSES
@pytest.mark.parametrize("order", ["before", "behind", "between"])
def test_in_one_epoch_with_events_of_its_run_it_is_in_order_with_them(order: str, fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        with harness.batch():
            first = [] if order == "before" else ["a"] if order == "between" else ["a", "b"]
            for what in first:
                harness.send(desk.requests, Order(what), key="k")
            asked = lay(harness, Order("x"))
            for what in ("a", "b")[len(first) :]:
                harness.send(desk.requests, Order(what), key="k")

        assert answer_to(harness, asked).data["reply"] == 2 + len(first)
        assert harness.runs["k"].state(desk.take).seen == ["ask", "a", "b"]


class Tell(Node[Order, list[str], None]):
    """Has neither waits nor timers: events of a run go into one call."""

    def process(self, event: Event[Order], ctx: Context[list[str]]) -> None:
        ctx.state.append(event.data.what)
        ctx.reply(len(ctx.state))


@FUSES
def test_in_one_call_with_events_of_its_run_it_is_in_order_with_them(fuse: Fuse) -> None:
    workflow = Workflow("together")
    requests = workflow.source(RequestSource(Order))
    take = workflow.node(Tell(), name="take")
    requests.to(take)
    with Harness(workflow, fuse=fuse) as harness:
        harness.request(requests, Order("first"), key="k")
        with harness.batch():
            harness.send(requests, Order("a"), key="k")
            asked = lay(harness, Order("x"))
            harness.send(requests, Order("b"), key="k")

        assert answer_to(harness, asked).data["reply"] == 3
        assert harness.runs["k"].state(take) == ["first", "a", "b"]


@FUSES
def test_in_one_epoch_with_an_event_that_fails_it_goes_on(fuse: Fuse) -> None:
    desk = Desk(retry=Retry(5))
    with desk.waiting(fuse) as harness:
        with harness.batch():
            harness.send(desk.requests, Order("fail"), key="k")
            asked = lay(harness, Order("x"))
            harness.send(desk.requests, Order("y"), key="k")

        assert answer_to(harness, asked).data["reply"] == 2
        assert len(harness.parked) == 2


@FUSES
def test_in_one_epoch_with_the_end_of_its_run_it_is_too_late(fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        with harness.batch():
            harness.send(desk.requests, Order("end"), key="k")
            asked = lay(harness, Order("x"))

        assert answer_to(harness, asked).reason == "late"
        assert harness.runs["k"].status == "completed"


def test_in_one_epoch_with_the_event_that_begins_its_run_it_is_the_new_runs() -> None:
    desk = Desk()
    with desk.waiting() as harness:
        harness.request(desk.requests, Order("end"), key="k")
        with harness.batch():
            harness.send(desk.requests, Order("new"), key="k")
            asked = lay(harness, Order("x"))

        assert answer_to(harness, asked).data["reply"] == 2


def test_inside_a_batch_nobody_could_answer() -> None:
    desk = Desk()
    with desk.waiting() as harness, harness.batch(), pytest.raises(HarnessError, match="outside"):
        harness.runs["k"].execute(desk.take, Order("x"))


def lay(harness: Harness, order: Order) -> str:
    """An execution of `take` into the inbox, without waiting for it. Its id."""
    number = harness._senders.home("k")
    harness._engine.store.append(
        number, "inbox", msgspec.json.encode(order), key="k", event="laid", time=harness._engine.now,
        source=source_of("take", commit=False), reply="test",
    )  # fmt: skip
    return "laid"


def answer_to(harness: Harness, asked: str) -> RequestAnswer:
    body = harness._engine.store.reply(harness._senders.home("k"), asked)
    assert body is not None, "it is not answered"
    return decode(body)


@FUSES
def test_a_paused_node_is_not_executed_and_one_that_is_away_neither(fuse: Fuse) -> None:
    desk = Desk()
    with desk.waiting(fuse) as harness:
        reasons = []
        harness.pause(desk.take)
        with pytest.raises(ExecutionFailed) as paused:
            harness.runs["k"].execute(desk.take, Order("x"))
        harness.resume(desk.take)
        reasons.append(paused.value.reason)
        harness.take_away(desk.take)
        with pytest.raises(ExecutionFailed) as away:
            harness.runs["k"].execute(desk.take, Order("x"))
        reasons.append(away.value.reason)

        assert reasons == ["paused", "unavailable"]
        assert harness.parked == []


def test_it_is_no_sign_of_life() -> None:
    workflow = Workflow("quiet")
    source = workflow.source(KafkaSource("orders", Order))
    note = workflow.node(remember)
    source.to(note)
    workflow.timeout(idle=timedelta(minutes=1)).to(Complete)
    with Harness(workflow) as harness:
        harness.send(source, Order("x"), key="k")
        harness.advance(timedelta(seconds=50))
        harness.runs["k"].execute(note, Order("y"))
        harness.advance(timedelta(seconds=20))

        assert harness.runs["k"].status == "completed"


def remember(event: Event[Order], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data.what)


@FUSES
def test_a_run_with_shared_state_lends_it(fuse: Fuse) -> None:
    workflow = Workflow("shared", state=Count)

    def add(event: Event[Order], ctx: Context[None, Count]) -> list[Order]:
        ctx.run.state.seen.append(event.data.what)
        return [Order(what) for what in ctx.run.state.seen]

    source, sink = workflow.source(KafkaSource("orders", Order)), workflow.sink(KafkaSink("seen", Order))
    adds = workflow.node(add)
    source.to(adds)
    adds.to(sink)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(source, Order("a"), key="k")
        tried = harness.runs["k"].execute(adds, Order("b"))
        kept = harness.runs["k"].execute(adds, Order("c"), commit=True)

        assert (tried.returned, [row["data"]["what"] for row in tried.data]) == ("list", ["a", "b"])
        assert [row["data"]["what"] for row in kept.data] == ["a", "c"]
        assert harness.runs["k"].shared.seen == ["a", "c"]
        assert harness.sent(sink) == [Order("a")]


class Weigh(BatchNode[Order, int, Order]):
    def process(self, events: Sequence[Event[Order]], ctxs: Sequence[Context[int]]) -> list[Order | Reject]:
        for ctx in ctxs:
            ctx.state += 1
        return [
            Reject("empty") if not event.data.what else Order(f"{len(events)}:{ctx.state}")
            for event, ctx in zip(events, ctxs, strict=True)
        ]


@FUSES
def test_a_batch_node_has_a_batch_of_one(fuse: Fuse) -> None:
    workflow = Workflow("batches")
    source, sink = workflow.source(KafkaSource("orders", Order)), workflow.sink(KafkaSink("out", Order))
    weigh = workflow.node(Weigh(), batch_size=10)
    source.to(weigh)
    weigh.to(sink)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send_all(source, [Order("a"), Order("b")], key="k")
        done = harness.runs["k"].execute(weigh, Order("c"))
        with pytest.raises(ExecutionFailed) as failure:
            harness.runs["k"].execute(weigh, Order(""))

        assert done.data == {"what": "1:3"}
        assert failure.value.reason == "reject"
        assert harness.runs["k"].state(weigh) == 2


class Speak(Node[Order, int, Order]):
    async def process(self, event: Event[Order], ctx: Context[int]) -> Order:
        async with ctx.stream("said") as said:
            await said.write(event.data.what)
        ctx.state += 1
        if event.data.what == "slow":
            await asyncio.sleep(60)
        return event.data


@FUSES
def test_streams_of_async_nodes_are_kept_only_where_it_is_committed(fuse: Fuse) -> None:
    workflow = Workflow("speaks", epoch_deadline=timedelta(seconds=1))
    source, sink = workflow.source(KafkaSource("orders", Order)), workflow.sink(KafkaSink("out", Order))
    speak = workflow.node(Speak())
    source.to(speak)
    speak.to(sink)
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(source, Order("a"), key="k")
        harness.runs["k"].execute(speak, Order("b"))
        assert (harness.runs["k"].streams, harness.runs["k"].state(speak)) == ({"said": ["a"]}, 1)
        harness.runs["k"].execute(speak, Order("c"), commit=True)
        assert (harness.runs["k"].streams, harness.runs["k"].state(speak)) == ({"said": ["a", "c"]}, 2)
        with pytest.raises(ExecutionFailed) as failure:
            harness.runs["k"].execute(speak, Order("slow"), commit=True)

        assert (failure.value.reason, harness.runs["k"].state(speak)) == ("timeout", 2)
        assert harness.runs["k"].streams == {"said": ["a", "c"]}
        assert harness.sent(sink) == [Order("a")]


def test_what_is_tried_is_in_no_stream_not_even_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    append = StreamsInMemory.append

    async def noted(self: StreamsInMemory, *arguments: Any) -> None:
        written.append(arguments[-1])
        await append(self, *arguments)

    monkeypatch.setattr(StreamsInMemory, "append", noted)
    workflow = Workflow("speaks")
    source = workflow.source(KafkaSource("orders", Order))
    speak = workflow.node(Speak())
    source.to(speak)
    speak.to(None)
    with Harness(workflow) as harness:
        harness.send(source, Order("a"), key="k")
        harness.runs["k"].execute(speak, Order("b"))
        harness.runs["k"].execute(speak, Order("c"), commit=True)

    assert written == [b'"a"', b'"c"']


def test_an_end_that_a_node_returns_is_told_and_ends_nothing() -> None:
    workflow = Workflow("ends")

    def judge(event: Event[Order], ctx: Context) -> Complete | Terminate | None:
        return {"good": Complete(1), "bad": Terminate("bad")}.get(event.data.what)

    source = workflow.source(KafkaSource("orders", Order))
    judges = workflow.node(judge)
    source.to(judges)
    with Harness(workflow) as harness:
        harness.send(source, Order("x"), key="k")
        said = [harness.runs["k"].execute(judges, Order(what), commit=True) for what in ("good", "bad")]

        assert [(row.returned, row.data) for row in said] == [("complete", 1), ("terminate", "bad")]
        assert harness.runs["k"].status == "running"


def test_the_run_of_a_workflow_without_keys_can_have_its_nodes_executed() -> None:
    workflow = Workflow("only", keyed=False)
    source = workflow.source(KafkaSource("orders", Order))
    note = workflow.node(remember)
    source.to(note)
    with Harness(workflow) as harness:
        harness.send(source, Order("x"))
        harness.runs[""].execute(note, Order("y"), commit=True)

        assert harness.runs[""].state(note) == ["x", "y"]


def test_a_crash_between_call_and_commit_executes_it_again_and_keeps_it_once() -> None:
    desk = Desk()
    with desk.waiting() as harness:
        harness.crash_at("before:commit")
        done = harness.runs["k"].execute(desk.take, Order("x"), commit=True)

        assert (harness.crashes, done.reply) == (1, 2)
        assert harness.runs["k"].state(desk.take).seen == ["ask", "x"]


def test_maps_and_parts_of_other_workflows_go_with_the_graph_only() -> None:
    inner = Workflow("inner")
    orders = inner.source(RequestSource(Order))
    orders.to(inner.node(end_inner, name="step"))
    workflow = Workflow("outer")
    source = workflow.source(KafkaSource("orders", Order))
    each = workflow.node(Map(length, Order, items=lambda order: list(order.what)), name="each")
    door = workflow.node(inner, name="door")
    source.to(each, door)
    each.to(None)
    door.on(Complete).to(None)
    with Harness(workflow) as harness:
        harness.send(source, Order("x"), key="k")
        for name in ("each", "door", "door/step"):
            with pytest.raises(HarnessError, match="by itself"):
                harness.runs["k"].execute(name, Order("x"))


def length(event: Event[str], ctx: Context) -> int:
    return len(event.data)


def end_inner(event: Event[Order], ctx: Context) -> Complete:
    return Complete(event.data.what)
