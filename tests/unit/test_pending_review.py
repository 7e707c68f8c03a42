"""Runs that stand at a wait, or have set timers, over versions of their workflow: none stands for ever unasked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import Complete, Context, Event, KafkaSource, MessageSource, Node, Timeout, Timer, Workflow
from headrace.testing import Harness, StatesLost
from headrace.workflows.errors import WorkflowError
from headrace.workflows.runs import WAIT_FIELD
from headrace.workflows.state_review import StateReview
from headrace.workflows.timers import TIMERS

MINUTE = timedelta(minutes=1)


class Order(msgspec.Struct, frozen=True):
    id: str


class Approval(msgspec.Struct, frozen=True):
    by: str


def ask(event: Event[Order], ctx: Context) -> Order:
    return event.data


def decide(event: Event[Approval], ctx: Context) -> Complete:
    return Complete(f"by {event.data.by}")


def expire(event: Event[Timeout], ctx: Context) -> Complete:
    return Complete("nobody")


class Remind(Node[Order, None, str]):
    def process(self, event: Event[Order], ctx: Context) -> str:
        ctx.set_timer("soon", after=MINUTE)
        return ""

    def on_timer(self, timer: Timer, ctx: Context) -> str:
        return timer.name


class Silent(Node[Order, None, str]):
    def process(self, event: Event[Order], ctx: Context) -> str:
        return ""


class Version:
    """Orders that wait for an approval; `wait`: under which name, ""; not at all. Beside that, a node."""

    def __init__(self, wait: str = "approval", beside: Node[Order, None, str] | None = None, **options: Any) -> None:
        named = options.pop("node", {})
        self.workflow = Workflow("orders")
        self.orders = self.workflow.source(KafkaSource("orders", Order, key="id"))
        asked = self.workflow.node(ask)
        targets: list[Any] = [asked]
        if wait:
            self.approvals = self.workflow.source(MessageSource("approvals", Approval))
            approval = self.workflow.wait(self.approvals, timeout=MINUTE, name=wait, **options)
            asked.to(approval)
            approval.to(self.workflow.node(decide))
            approval.on(Timeout).to(self.workflow.node(expire))
        else:
            asked.to(None)
        if beside is not None:
            other = self.workflow.node(beside, **named)
            other.to(None)
            targets.append(other)
        self.orders.to(*targets)


def before(*keys: str, version: Version | None = None) -> tuple[Version, Harness]:
    """Runs of an earlier version, that have had an order each."""
    version = version or Version()
    harness = Harness(version.workflow)
    for key in keys:
        harness.send(version.orders, Order(key))
    return version, harness


def test_a_version_without_the_wait_at_which_runs_stand_is_refused() -> None:
    _, old = before("a", "b")

    with pytest.raises(StatesLost) as refused:
        Harness(Version("").workflow, on=old)

    assert refused.value.names == ["@wait:approval"]
    assert str(refused.value) == (
        "The new version of orders would lose what runs wait for; nothing was changed:\n"
        "  2 runs stand at the wait 'approval', which is gone\n"
        'A wait, or a node with timers: keep it until no run needs it; if it was renamed, renamed_from="its old name".'
        " Or end such runs before, with headrace runs terminate. To let runs go on without: --drop-state @wait:approval"
    )


def test_runs_that_have_gone_on_from_the_wait_need_it_no_more() -> None:
    version, old = before("a", "b")
    old.send(version.approvals, Approval("ada"), key="a")
    old.advance(2 * MINUTE)

    with Harness(Version("").workflow, on=old) as new:
        assert new.dead_letters == []


def test_runs_that_are_let_go_stand_nowhere_and_go_on_with_their_next_event() -> None:
    _, old = before("a")
    version = Version("other")

    with Harness(version.workflow, on=old, drop_state=["@wait:approval"]) as new:
        assert new.runs["a"].waits_at is None
        new.advance(2 * MINUTE)
        assert new.runs["a"].status == "running", "the time of the wait is not over: it stands there no more"

        new.send(version.orders, Order("a"))

        assert new.runs["a"].waits_at == "other"


@pytest.mark.parametrize("former", ["approval", ["later", "approval"]])
def test_a_wait_that_is_renamed_is_where_runs_stand(former: Any) -> None:
    _, old = before("a", "b")
    version = Version("decision", renamed_from=former)

    with Harness(version.workflow, on=old) as new:
        new.send(version.approvals, Approval("ada"), key="a")
        new.advance(2 * MINUTE)

        assert [new.runs[key].result for key in "ab"] == ["by ada", "nobody"]


def test_a_wait_is_not_renamed_from_one_that_is_still_there() -> None:
    version = Version()
    version.workflow.wait(version.approvals, name="other", renamed_from="approval").to(Complete)

    with pytest.raises(WorkflowError, match="renamed_from is 'approval', but that wait is still there"):
        version.workflow.compile()


@pytest.mark.parametrize(
    ("node", "why"), [(None, "is gone"), (Silent(), "has no on_timer now")], ids=["no node", "no timer"]
)
def test_a_version_that_can_t_take_timers_that_are_to_come_is_refused(node: Any, why: str) -> None:
    _, old = before("a", version=Version(beside=Remind(), node={"name": "remind"}))
    version = Version(beside=node, node={"name": "remind"})

    with pytest.raises(StatesLost, match=f"remind has set timers that are to come, in 1 run, and {why}") as refused:
        Harness(version.workflow, on=old)

    assert refused.value.names == ["@timers:remind"]
    with Harness(version.workflow, on=old, drop_state=["@timers:remind"]) as new:
        new.advance(MINUTE / 2)
        with Harness(version.workflow, on=new):
            assert new.dead_letters == [], "they are gone: the next version is not asked again"


def test_timers_that_have_come_hinder_nobody() -> None:
    _, old = before("a", version=Version(beside=Remind()))
    old.advance(MINUTE)

    with Harness(Version(beside=Silent(), node={"name": "remind"}).workflow, on=old) as new:
        assert new.dead_letters == []


def test_what_is_let_go_is_written_and_the_rest_stays() -> None:
    review = StateReview(Version("").workflow.compile())
    fields = {
        "status": b"running", "number": b"1", WAIT_FIELD: b'["approval",3,5,9]',
        TIMERS: b'{"last":2,"set":{"ask":{"x":[1,5]},"remind":{"y":[2,7]}}}',
    }  # fmt: skip

    ready = review.ready("a", fields, ["@wait:approval", "@timers:remind"])

    assert (ready.dropped, ready.moves) == ([], {})
    assert ready.writes == {WAIT_FIELD: b'["",3,0,0]', TIMERS: b'{"last":2,"set":{"ask":{"x":[1,5]}}}'}
    done = review.ready("a", fields | ready.writes, ["@wait:approval", "@timers:remind"])
    assert done.writes == {}
