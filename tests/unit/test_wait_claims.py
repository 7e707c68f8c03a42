"""Messages that claim a wait: they go on from that one, or nowhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import ChannelSource, Complete, Context, Event, MessageSource, RequestSource, Timeout, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS

Fuse = Literal["all"] | None
SECOND = timedelta(seconds=1)


class Order(msgspec.Struct, frozen=True):
    id: str


class Step(msgspec.Struct, frozen=True):
    by: str


def ask(event: Event[Order], ctx: Context[None, list[str]]) -> Order:
    return event.data


def go_on(event: Event[Step], ctx: Context[None, list[str]]) -> Step | Complete:
    ctx.run.state.append(event.data.by)
    ctx.reply(list(ctx.run.state))
    return Complete(list(ctx.run.state)) if len(ctx.run.state) == 3 else event.data


def later(event: Event[Timeout], ctx: Context[None, list[str]]) -> Order:
    ctx.run.state.append("nobody")
    return Order(event.key)


def steps(fuse: Fuse = None) -> Any:
    """Workflow, orders, steps: an order waits again and again, three times."""
    workflow = Workflow("orders", state=list[str], fuse=fuse)
    orders = workflow.source(RequestSource(Order, key="id"))
    messages = workflow.source(MessageSource("step", Step))
    asked, goes_on, over = workflow.node(ask), workflow.node(go_on), workflow.node(later)
    wait = workflow.wait(messages, timeout=60 * SECOND)
    orders.to(asked)
    asked.to(wait)
    wait.to(goes_on)
    goes_on.to(wait)
    wait.on(Timeout).to(over)
    over.to(wait)
    return workflow, orders, messages


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


def test_each_time_that_a_run_stands_at_a_wait_has_an_id_of_its_own(fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        first = harness.ask(orders, Order("o1")).answer
        assert harness.runs["o1"].wait_ids == [first.wait_id]
        second = harness.ask(messages, Step("ann"), key="o1").answer
        assert harness.runs["o1"].wait_ids == [second.wait_id]
        harness.runs["o1"].terminate()
        assert harness.runs["o1"].wait_ids == []
        again = harness.ask(orders, Order("o1")).answer

        ids = [first.wait_id, second.wait_id, again.wait_id]
        assert len(set(ids)) == 3
        assert "" not in ids


def _at_once(harness: Harness, messages: Any, wait: str, *by: str) -> list[Any]:
    """Of one epoch: a later one comes to the run where it stands at the next wait already."""
    plan = harness._senders.source(messages)
    asked = [harness._asking.ask(plan, Step(each), "o1", None, wait) for each in by]
    harness.advance(timedelta())
    return asked


@pytest.mark.parametrize("together", [False, True])
def test_B25_of_two_that_claim_a_wait_one_advances_and_the_next_wait_is_not_skipped(together: bool, fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        wait = harness.ask(orders, Order("o1")).answer.wait_id
        if together:
            ann, bob = _at_once(harness, messages, wait, "a", "b")
        else:
            ann, bob = (harness.ask(messages, Step(by), key="o1", wait=wait) for by in "ab")

        assert ann.answer.data == ["a"]
        assert (bob.answer.kind, bob.answer.reason) == ("failed", "wait-taken")
        assert harness.runs["o1"].shared == ["a"]
        assert harness.ask(messages, Step("c"), key="o1", wait=ann.answer.wait_id).answer.data == ["a", "c"]
        assert [letter.reason for letter in harness.dead_letters] == ["wait-taken"]


def test_a_message_without_a_claim_may_take_the_wait_first(fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        wait = harness.ask(orders, Order("o1")).answer.wait_id
        harness.ask(messages, Step("a"), key="o1")
        late = harness.ask(messages, Step("b"), key="o1", wait=wait)

        assert late.answer.reason == "wait-taken"
        assert harness.runs["o1"].shared == ["a"]


def test_a_time_out_ends_the_wait_that_was_claimed(fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        wait = harness.ask(orders, Order("o1")).answer.wait_id
        harness.advance(61 * SECOND)
        late = harness.ask(messages, Step("b"), key="o1", wait=wait)

        assert late.answer.reason == "wait-taken"
        assert harness.runs["o1"].shared == ["nobody"]


def test_without_claims_two_messages_are_two_messages(fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        harness.ask(orders, Order("o1"))
        for by in "ab":
            harness.ask(messages, Step(by), key="o1")

        assert harness.runs["o1"].shared == ["a", "b"]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_claim_outlives_a_crash(point: str, fuse: Fuse) -> None:
    workflow, orders, messages = steps(fuse)
    with Harness(workflow) as harness:
        wait = harness.ask(orders, Order("o1")).answer.wait_id
        harness.crash_at(point)
        ann, bob = (harness.ask(messages, Step(by), key="o1", wait=wait) for by in "ab")

        assert ann.answer.data == ["a"]
        assert bob.answer.reason == "wait-taken"


def approve(event: Event[Step], ctx: Context) -> Complete:
    ctx.reply(event.data.by)
    return Complete(event.data.by)


def test_a_wait_of_a_workflow_that_is_a_node_can_be_claimed(fuse: Fuse) -> None:
    inner = Workflow("approving")
    orders = inner.source(ChannelSource(Order, capacity=10, key="id"))
    messages = inner.source(MessageSource("step", Step))
    wait = inner.wait(messages)
    orders.to(wait)
    wait.to(inner.node(approve))
    outer = Workflow("outer")
    asked = outer.source(RequestSource(Order, key="id"))
    node = outer.node(inner, name="step")
    asked.to(node)
    node.on(Complete).to(None)
    with Harness(outer, fuse=fuse) as harness:
        harness.ask(asked, Order("o1"))
        first = harness.runs["o1"].wait_ids[0]
        ann = harness.ask(messages, Step("a"), key="o1", wait=first)
        harness.ask(asked, Order("o1"))
        bob = harness.ask(messages, Step("b"), key="o1", wait=first)
        cid = harness.ask(messages, Step("c"), key="o1", wait=harness.runs["o1"].wait_ids[0])

        assert [ann.answer.data, bob.answer.reason, cid.answer.data] == ["a", "wait-taken", "c"]
