"""`async` nodes that take longer than an epoch waits: others go on, and the result is taken when it comes."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Node, Retry, Timer, Workflow
from headrace.testing import Harness
from headrace.workflows.entries import Entry
from headrace.workflows.slow import SlowCalls, StillRuns

SECOND = timedelta(seconds=1)


class Ask(msgspec.Struct, frozen=True):
    user: str
    text: str


class Model(Node[Ask, list[str], Ask]):
    """Answers at once, but what begins with `slow` only when it is let go."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.let_go = False
        self.error: Exception | None = None

    async def process(self, event: Event[Ask], ctx: Context[list[str], Any]) -> Ask:
        text = event.data.text
        self.calls.append((text, ctx.attempt))
        ctx.state.append(text)
        if ctx.run.state is not None:
            ctx.run.state.append(text)
        while text.startswith("slow") and not self.let_go:  # noqa: ASYNC110  another thread lets it go
            await asyncio.sleep(0.01)
        if text.startswith("slow") and self.error is not None and ctx.attempt == 1:
            raise self.error
        return event.data


class Chat:
    """Questions go to the model, and leave."""

    def __init__(self, *, fuse: Literal["all"] | None = None, **options: Any) -> None:
        self.model = Model()
        workflow = Workflow("chat", partitions=1, epoch_deadline=SECOND, **options)
        self.asks = workflow.source(KafkaSource("asks", Ask, key="user"))
        self.node = workflow.node(self.model, name="model", retry=Retry(3, on=(OSError,)))
        self.said = workflow.sink(KafkaSink("said", Ask))
        self.asks.to(self.node)
        self.node.to(self.said)
        self.harness = Harness(workflow, fuse=fuse)

    def send(self, *asks: tuple[str, str]) -> None:
        with self.harness.batch():
            for user, text in asks:
                self.harness.send(self.asks, Ask(user, text))

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.harness.sent(self.said)]

    def until_taken(self) -> None:
        """Time goes on until nothing stands still."""
        deadline = time.monotonic() + 10
        while self.harness.parked and time.monotonic() < deadline:
            self.harness.advance(SECOND)
        assert not self.harness.parked


@pytest.mark.parametrize("fuse", ["all", None])
def test_a_slow_call_goes_on_while_others_do_and_counts_once(fuse: Any) -> None:
    chat = Chat(fuse=fuse)
    with chat.harness:
        chat.send(("ada", "slow 1"), ("ada", "2"), ("bob", "3"))
        assert chat.texts == ["3"]
        assert [(row.reason, row.attempts) for row in chat.harness.parked] == [("slow", 0), ("behind", 0)]

        chat.harness.advance(60 * SECOND)  # it is asked again and again
        assert chat.texts == ["3"]
        chat.send(("bob", "4"))
        assert chat.texts == ["3", "4"]

        chat.model.let_go = True
        chat.until_taken()
        assert chat.texts == ["3", "4", "slow 1", "2"]
        assert chat.harness.runs["ada"].state(chat.node) == ["slow 1", "2"]
        assert [text for text, _ in chat.model.calls].count("slow 1") == 1


def test_a_slow_call_that_fails_is_tried_again_as_any_other() -> None:
    chat = Chat()
    chat.model.error = OSError("busy")
    with chat.harness:
        chat.send(("ada", "slow"))
        chat.model.let_go = True
        chat.until_taken()

        assert chat.model.calls == [("slow", 1), ("slow", 2)]
        assert chat.harness.runs["ada"].state(chat.node) == ["slow"]


def test_a_slow_call_is_made_again_when_its_process_has_ended() -> None:
    chat = Chat()
    with chat.harness:
        chat.send(("ada", "slow"))
        chat.harness.crash_at("after:pull")
        chat.send(("bob", "2"))
        chat.model.let_go = True
        chat.until_taken()

        assert chat.texts == ["2", "slow"]
        assert chat.model.calls.count(("slow", 1)) == 2
        assert chat.harness.runs["ada"].state(chat.node) == ["slow"]


def test_a_slow_call_keeps_what_it_does_to_the_state_that_nodes_share_to_itself() -> None:
    chat = Chat(state=list[str])
    with chat.harness:
        chat.send(("ada", "slow 1"), ("ada", "2"))
        assert [row.reason for row in chat.harness.parked] == ["slow", "behind"]
        assert chat.harness.runs["ada"].shared == []

        chat.model.let_go = True
        chat.until_taken()
        assert chat.harness.runs["ada"].shared == ["slow 1", "2"]
        assert chat.texts == ["slow 1", "2"]


def test_a_slow_call_of_a_run_that_has_ended_is_not_heard() -> None:
    chat = Chat()
    with chat.harness:
        chat.send(("ada", "slow 1"))
        chat.harness.runs["ada"].terminate("enough")
        assert not chat.harness.parked

        chat.model.let_go = True
        chat.send(("ada", "2"))
        chat.harness.advance(60 * SECOND)
        assert chat.texts == ["2"]
        assert chat.harness.runs["ada"].state(chat.node) == ["2"]


def test_an_event_in_a_batch_knows_which_attempt_it_is() -> None:
    attempts = []

    class Together(BatchNode[Ask, None, Ask]):
        def process(self, events: list[Event[Ask]], ctxs: list[Context]) -> list[Ask]:
            attempts.append([ctx.attempt for ctx in ctxs])
            if any(event.data.text == "flaky" and ctx.attempt < 3 for event, ctx in zip(events, ctxs, strict=True)):
                raise OSError("not now")
            return [event.data for event in events]

    workflow = Workflow("chat", partitions=1)
    asks = workflow.source(KafkaSource("asks", Ask, key="user"))
    node = workflow.node(Together(), name="together", retry=Retry(5, on=(OSError,)))
    asks.to(node)
    node.to(None)
    with Harness(workflow) as harness:
        harness.send(asks, Ask("ada", "flaky"))
        harness.advance(timedelta(hours=1))

    assert attempts == [[1], [1], [2], [2], [3]]


def test_what_a_slow_call_asked_for_before_it_was_slow_takes_effect() -> None:
    let_go = False

    class Remind(Node[Ask, list[str], None]):
        async def process(self, event: Event[Ask], ctx: Context[list[str]]) -> None:
            ctx.set_timer("later", after=timedelta(hours=2))
            while not let_go:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)

        async def on_timer(self, timer: Timer, ctx: Context[list[str]]) -> None:
            ctx.state.append(timer.name)

    workflow = Workflow("chat", partitions=1, epoch_deadline=SECOND)
    asks = workflow.source(KafkaSource("asks", Ask, key="user"))
    node = workflow.node(Remind(), name="remind")
    asks.to(node)
    with Harness(workflow) as harness:
        harness.send(asks, Ask("ada", "hi"))
        assert [row.reason for row in harness.parked] == ["slow"]
        let_go = True
        deadline = time.monotonic() + 10
        while harness.parked and time.monotonic() < deadline:
            harness.advance(SECOND)
        harness.advance(timedelta(hours=3))
        assert harness.runs["ada"].state(node) == ["later"]


def test_a_slow_call_is_made_again_when_its_partition_has_another_owner() -> None:
    chat = Chat()
    with chat.harness:
        chat.send(("ada", "slow"))
        chat.harness._engine._tenures.clear()  # the worker has ended, the node's process has not
        chat.model.let_go = True
        chat.until_taken()

        assert chat.model.calls == [("slow", 1), ("slow", 1)]
        assert chat.harness.runs["ada"].state(chat.node) == ["slow"]


async def test_a_slow_call_that_began_with_another_state_is_made_again() -> None:
    calls = []

    async def process(event: Any, ctx: Context[Any, Any]) -> None:
        calls.append(ctx.attempt)
        await asyncio.sleep(60)

    node: Any = SimpleNamespace(process=process, name="model", slot=0)
    slow = SlowCalls(0.01, lambda event, ctx: lambda: None)
    patient = slow.patient(node)
    context: Context[Any, Any] = Context("chat", "model")
    entry = Entry("chat", "ada", 1, "owner", None)
    context._run, entry.blobs = entry, [b"1"]
    event: Any = None

    for blob in (b"1", b"1", b"2"):
        entry.blobs = [blob]
        with pytest.raises(StillRuns):
            await patient(event, context)

    assert (calls, len(slow)) == ([1, 1], 1)
    slow.begin(0, "another", 1)
    assert len(slow) == 0
    await asyncio.sleep(0)  # what was cancelled ends


@pytest.mark.parametrize("fuse", ["all", None])
def test_what_a_slow_call_has_written_into_a_stream_is_not_void_while_it_goes_on(fuse: Any) -> None:
    gate = SimpleNamespace(open=False)

    async def speak(event: Event[Ask], ctx: Context) -> None:
        async with ctx.stream("tokens") as tokens:
            await tokens.write("once")
            while not gate.open:  # noqa: ASYNC110  another thread opens it
                await asyncio.sleep(0.01)
            await tokens.write("upon")
        ctx.reply("done")

    workflow = Workflow("chat", partitions=1, epoch_deadline=SECOND)
    asks = workflow.source(KafkaSource("asks", Ask, key="user"))
    asks.to(workflow.node(speak))
    with Harness(workflow, fuse=fuse) as harness:
        harness.send(asks, Ask("ada", "tell"))
        assert [row.reason for row in harness.parked] == ["slow"]
        assert harness.runs["ada"].streams == {"tokens": ["once"]}

        gate.open = True
        deadline = time.monotonic() + 10
        while harness.parked and time.monotonic() < deadline:
            harness.advance(SECOND)

        assert harness.runs["ada"].streams == {"tokens": ["once", "upon"]}
        assert [entry.kind for entry in harness.runs["ada"].entries("tokens")] == ["value", "value"]
