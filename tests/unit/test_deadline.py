"""`timeout=` of an async node: a call that takes too long is cancelled, and nothing but its event is affected."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Node, Workflow, WorkflowError
from headrace.testing import Harness
from headrace.workflows.deadline import DeadlineExceeded

SHORT = timedelta(milliseconds=30)
FOREVER = 3600


class Ask(msgspec.Struct, frozen=True):
    key: str
    how: str


class Heard(msgspec.Struct):
    asked: list[str] = []


class Service:
    """What the node waits for; `stuck` says whether it answers."""

    stuck = True
    cancelled = 0


def asking(timeout: timedelta = SHORT, **options: Any) -> tuple[Workflow, Any, Any, Any, Service]:
    service = Service()
    workflow = Workflow("asking")

    async def ask(event: Event[Ask], ctx: Context[Heard]) -> str:
        ctx.state.asked = [*ctx.state.asked, event.data.how]
        if event.data.how == "own":
            raise TimeoutError("the service says that it is late")
        if event.data.how == "stuck" and service.stuck:
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                service.cancelled += 1
                raise
        return f"{event.data.how} {len(ctx.state.asked)}"

    source = workflow.source(KafkaSource("asks", Ask, key="key"))
    node = workflow.node(ask, timeout=timeout, **options)
    sink = workflow.sink(KafkaSink("answers", str))
    source.to(node)
    node.to(sink)
    return workflow, source, node, sink, service


def test_F07_a_call_that_never_ends_is_given_up_and_its_event_is_a_dead_letter() -> None:
    workflow, source, node, sink, service = asking()
    with Harness(workflow) as harness:
        with harness.batch():
            for key in ("a", "b"):
                for how in ("quick", "stuck" if key == "a" else "quick", "quick"):
                    harness.send(source, Ask(key, how))

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.node, letter.key) == ("timeout", "ask", "a")
        assert letter.error == "not done after 0.03 s (timeout=), and cancelled"
        assert letter.traceback is None
        assert service.cancelled == 1
        assert harness.runs["a"].state(node).asked == ["quick", "quick"], "as if it had not begun"
        assert sorted(harness.sent(sink)) == ["quick 1", "quick 1", "quick 2", "quick 2", "quick 3"]


def test_what_was_given_up_can_be_sent_back() -> None:
    workflow, source, node, sink, service = asking()
    with Harness(workflow) as harness:
        harness.send(source, Ask("a", "stuck"))
        service.stuck = False
        assert harness.replay() == 1

        assert harness.dead_letters == []
        assert harness.sent(sink) == ["stuck 1"]
        assert harness.runs["a"].state(node).asked == ["stuck"]


def test_a_time_out_of_the_nodes_own_is_an_error_of_the_node() -> None:
    workflow, source, _, _, _ = asking(timeout=timedelta(hours=1))
    with Harness(workflow) as harness:
        harness.send(source, Ask("a", "own"))

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.error) == ("error", "TimeoutError: the service says that it is late")


def test_each_node_of_a_unit_has_its_own_deadline() -> None:
    workflow = Workflow("both")

    def pick(event: Event[Ask], ctx: Context) -> Ask:
        return event.data

    async def patient(event: Event[Ask], ctx: Context) -> Ask:
        await asyncio.sleep(SHORT.total_seconds() * 2)
        return event.data

    class Hasty(Node[Ask, None, str]):
        async def process(self, event: Event[Ask], ctx: Context) -> str:
            await asyncio.sleep(FOREVER if event.data.how == "stuck" else 0)
            return event.data.how

    source = workflow.source(KafkaSource("asks", Ask, key="key"))
    picking, waiting = workflow.node(pick), workflow.node(patient)
    hurrying, sink = workflow.node(Hasty(), timeout=SHORT), workflow.sink(KafkaSink("answers", str))
    source.to(picking)
    picking.to(waiting)
    waiting.to(hurrying)
    hurrying.to(sink)
    with Harness(workflow, fuse="all") as harness:
        harness.send_all(source, [Ask("a", "stuck"), Ask("a", "quick")])

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.node) == ("timeout", "hasty")
        assert harness.sent(sink) == ["quick"]


def test_a_batch_that_takes_too_long_goes_singly() -> None:
    workflow = Workflow("batches")
    sizes: list[int] = []

    class Score(BatchNode[Ask, Heard, str]):
        async def process(self, events: Sequence[Event[Ask]], ctxs: Sequence[Context[Heard]]) -> list[str]:
            sizes.append(len(events))
            for event, ctx in zip(events, ctxs, strict=True):
                ctx.state.asked = [*ctx.state.asked, event.data.how]
            if any(event.data.how == "stuck" for event in events):
                await asyncio.sleep(FOREVER)
            return [event.data.how for event in events]

    source = workflow.source(KafkaSource("asks", Ask, key="key"))
    node, sink = workflow.node(Score(), batch_size=3, timeout=SHORT), workflow.sink(KafkaSink("answers", str))
    source.to(node)
    node.to(sink)
    with Harness(workflow, partitions=1) as harness:
        harness.send_all(source, [Ask("a", "one"), Ask("b", "stuck"), Ask("c", "two")])

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.key) == ("timeout", "b")
        assert sizes == [3, 1, 1, 1]
        assert sorted(harness.sent(sink)) == ["one", "two"]
        assert harness.runs["a"].state(node).asked == ["one"]
        assert harness.runs["b"].state(node).asked == []


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1), timedelta(days=400), timedelta.max, 5])
def test_absurd_deadlines_are_refused(timeout: Any) -> None:
    workflow, *_ = asking(timeout)

    with pytest.raises(WorkflowError, match="is no time for one call"):
        workflow.compile()


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DeadlineExceeded(SHORT)))

    assert (str(error), error.timeout) == (str(DeadlineExceeded(SHORT)), SHORT)
