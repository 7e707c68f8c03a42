"""Requests: each is answered once, by whatever comes first."""

from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import (
    Complete,
    Context,
    Event,
    Linear,
    MessageSource,
    Reject,
    RequestSource,
    Retry,
    SourceClosed,
    Terminate,
    Timeout,
    Workflow,
)
from headrace.testing import Harness, HarnessError
from headrace.testing.engine import CRASH_POINTS

Fuse = Literal["all"] | None
SECOND = timedelta(seconds=1)
RETRY = Retry(3, on=(OSError,), backoff=Linear(SECOND, timedelta(0)), jitter=0.0)


class Wish(msgspec.Struct, frozen=True):
    key: str
    does: str


class Word(msgspec.Struct, frozen=True):
    text: str


class Shared(msgspec.Struct):
    wishes: int = 0


def fulfil(event: Event[Wish], ctx: Context[None, Shared]) -> Complete | Terminate | Wish | None:
    ctx.run.state.wishes += 1
    does = event.data.does
    if "reply" in does:
        ctx.reply({"to": does})
    if "reject" in does:
        raise Reject("not that")
    if "fail" in does:
        raise ValueError("can't")
    if "complete" in does:
        return Complete({"wishes": ctx.run.state.wishes})
    if "terminate" in does:
        return Terminate("enough")
    return None if "nothing" in does else event.data


def later(event: Event[Wish], ctx: Context[None, Shared]) -> Wish | None:
    if "never" in event.data.does or ("thrice" in event.data.does and ctx.attempt < 3):
        raise OSError("not now")
    if "late" in event.data.does:
        ctx.reply(ctx.attempt)
    return event.data if "wait" in event.data.does else None


def heard(event: Event[Word], ctx: Context[None, Shared]) -> Word | None:
    if event.data.text == "again":
        ctx.reply("and again")
        return event.data
    if event.data.text != "hush":
        ctx.reply(f"heard {event.data.text}")
    return None


def gone(event: Event[Timeout], ctx: Context[None, Shared]) -> Complete:
    return Complete("nobody came")


def wishing(fuse: Fuse = None, **options: Any) -> Any:
    workflow = Workflow("wishes", state=Shared, fuse=fuse, **options)
    wishes = workflow.source(RequestSource(Wish, key="key"))
    words = workflow.source(MessageSource("word", Word))
    first, second = workflow.node(fulfil), workflow.node(later, retry=RETRY)
    wait = workflow.wait(words, timeout=60 * SECOND)
    hears, expired = workflow.node(heard), workflow.node(gone)
    wishes.to(first)
    first.to(second)
    second.to(wait)
    wait.to(hears)
    wait.on(Timeout).to(expired)
    hears.to(wait)
    return workflow, wishes, words


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("does", "kind", "rest"),
    [
        ("reply nothing", "reply", {"data": {"to": "reply nothing"}}),
        ("nothing", "done", {"data": None}),
        ("complete", "ended", {"outcome": "completed", "data": {"wishes": 1}}),
        ("reply complete", "reply", {"data": {"to": "reply complete"}}),
        ("terminate", "ended", {"outcome": "terminated", "data": "enough"}),
        ("reject", "failed", {"reason": "reject", "node": "fulfil", "error": "not that", "attempts": 1}),
        ("reply fail", "failed", {"reason": "error", "node": "fulfil", "error": "ValueError: can't"}),
        ("wait", "waiting", {"wait": "word", "has_value": False}),
        ("wait reply", "waiting", {"data": {"to": "wait reply"}}),
        ("wait late", "waiting", {"data": 1}),
    ],
)
def test_B16_whatever_becomes_of_a_request_answers_it(does: str, kind: str, rest: dict[str, Any], fuse: Fuse) -> None:
    workflow, wishes, _ = wishing(fuse)
    with Harness(workflow) as harness:
        answer = harness.ask(wishes, Wish("a", does)).answer

        assert answer is not None
        assert answer.kind == kind
        assert {name: getattr(answer, name) for name in rest} == rest


def test_what_stands_still_is_not_answered_until_it_is_settled(fuse: Fuse) -> None:
    workflow, wishes, _ = wishing(fuse)
    with Harness(workflow) as harness:
        quiet, loud, never = (harness.ask(wishes, Wish(does, does)) for does in ("thrice", "thrice late", "never"))
        assert [quiet.answer, loud.answer, never.answer] == [None, None, None]

        harness.advance(SECOND)
        assert [quiet.answer, loud.answer, never.answer] == [None, None, None]
        harness.advance(SECOND)

        assert [asked.answer.kind for asked in (quiet, loud, never)] == ["done", "reply", "failed"]
        assert loud.reply() == 3
        assert (never.answer.node, never.answer.attempts, never.answer.error) == ("later", 3, "OSError: not now")


def test_events_behind_one_that_stands_still_are_answered_when_they_have_gone_on(fuse: Fuse) -> None:
    workflow, wishes, _ = wishing(fuse)
    with Harness(workflow) as harness:
        first, second = harness.ask(wishes, Wish("a", "thrice")), harness.ask(wishes, Wish("a", "reply nothing"))
        assert (first.answer, second.answer) == (None, None)

        harness.advance(2 * SECOND)

        assert (first.answer.kind, second.reply()) == ("done", {"to": "reply nothing"})


def test_a_reply_does_not_wait_for_what_stands_still(fuse: Fuse) -> None:
    workflow, wishes, _ = wishing(fuse)
    with Harness(workflow) as harness:
        asked = harness.ask(wishes, Wish("a", "reply never"))
        assert asked.reply() == {"to": "reply never"}

        harness.advance(2 * SECOND)

        assert asked.reply() == {"to": "reply never"}
        assert [letter.reason for letter in harness.dead_letters] == ["error"]


@pytest.mark.parametrize(("how", "outcome"), [("terminate", "terminated"), ("delete", "deleted")])
def test_B31_a_request_that_stands_still_as_its_run_is_ended_is_told_so(how: str, outcome: str, fuse: Fuse) -> None:
    workflow, wishes, _ = wishing(fuse)
    with Harness(workflow) as harness:
        asked, behind = harness.ask(wishes, Wish("a", "never")), harness.ask(wishes, Wish("a", "reply nothing"))

        if how == "terminate":
            harness.runs["a"].terminate("by hand")
        else:
            harness.runs["a"].delete()
        harness.advance(10 * SECOND)

        assert (asked.answer.kind, asked.answer.outcome) == ("ended", outcome)
        assert asked.answer.data == ("by hand" if how == "terminate" else None)
        assert behind.answer.kind == ("reply" if how == "terminate" else "ended")


def test_B6_a_message_is_answered_with_the_next_reply_and_where_the_run_waits(fuse: Fuse) -> None:
    workflow, wishes, words = wishing(fuse)
    with Harness(workflow) as harness:
        harness.ask(wishes, Wish("a", "wait"))

        again = harness.ask(words, Word("again"), key="a").answer
        last = harness.ask(words, Word("tea"), key="a").answer

        assert (again.kind, again.wait, again.data) == ("waiting", "word", "and again")
        assert (last.kind, last.data) == ("reply", "heard tea")


def test_M10_a_message_that_is_kept_is_answered_once_its_run_has_taken_it(fuse: Fuse) -> None:
    workflow, wishes, words = wishing(fuse)
    with Harness(workflow) as harness:
        harness.ask(wishes, Wish("a", "reply nothing"))
        early = harness.ask(words, Word("tea"), key="a")
        assert early.answer is None

        harness.ask(wishes, Wish("a", "wait"))

        assert early.reply() == "heard tea"


def test_M2_a_message_to_a_run_that_is_not_there_or_has_ended_is_told_so(fuse: Fuse) -> None:
    workflow, wishes, words = wishing(fuse)
    with Harness(workflow) as harness:
        unknown = harness.ask(words, Word("tea"), key="nobody").answer
        harness.ask(wishes, Wish("a", "reply nothing"))
        kept = harness.ask(words, Word("tea"), key="a")
        harness.ask(wishes, Wish("a", "complete"))
        late = harness.ask(words, Word("tea"), key="a").answer

        assert [(answer.kind, answer.reason) for answer in (unknown, kept.answer, late)] == [("failed", "no-run")] * 3


def test_each_of_several_requests_of_a_run_in_one_epoch_is_told_where_the_run_stood_after_it(fuse: Fuse) -> None:
    workflow, wishes, words = wishing(fuse)
    with Harness(workflow) as harness:
        with harness.batch():
            asking = harness._asking
            plans = [harness._senders.source(source) for source in (wishes, words, wishes)]
            data = [Wish("a", "wait"), Word("hush"), Wish("a", "nothing")]
            asked = [asking.ask(plan, item, "a", None) for plan, item in zip(plans, data, strict=True)]

        assert [one.answer.kind for one in asked] == ["waiting", "done", "done"]


@pytest.mark.parametrize("late", ["dead-letter", "drop"])
def test_a_request_that_comes_too_late_is_told_so(late: Any) -> None:
    workflow = Workflow("wishes", state=Shared)
    wishes = workflow.source(RequestSource(Wish, key="key"), late=late)
    node = workflow.node(fulfil)
    wishes.to(node)
    node.to(None)
    with Harness(workflow) as harness:
        harness.ask(wishes, Wish("a", "complete"))

        answer = harness.ask(wishes, Wish("a", "reply nothing")).answer

        assert (answer.kind, answer.reason) == ("failed", "late")


def test_what_makes_room_is_told_so() -> None:
    def never(event: Event[Wish], ctx: Context) -> None:
        raise OSError("not now")

    workflow = Workflow("wishes", parked_full="dead-letter")
    wishes = workflow.source(RequestSource(Wish, key="key"))
    wishes.to(workflow.node(never, retry=Retry(100, on=(OSError,), backoff=Linear(3600 * SECOND))))
    with Harness(workflow) as harness:
        asked = [harness.ask(wishes, Wish("a", "")) for _ in range(1100)]
        answers = [one.answer for one in asked]

        assert {(row.kind, row.reason, row.node) for row in answers if row} == {("failed", "parked-full", "never")}
        assert answers[0] is not None
        assert answers[-1] is None


def test_all_requests_of_an_unkeyed_workflow_are_told_that_it_has_ended(fuse: Fuse) -> None:
    workflow = Workflow("wishes", keyed=False, fuse=fuse)
    wishes = workflow.source(RequestSource(Wish))
    done = workflow.node(complete)
    wishes.to(done)
    with Harness(workflow) as harness:
        with harness.batch():
            plan = harness._senders.source(wishes)
            asked = [harness._asking.ask(plan, Wish("", f"{number}"), None, None) for number in range(3)]

        assert [(one.answer.kind, one.answer.data) for one in asked] == [("ended", "0")] * 3
        assert [wish.does for wish in harness.remainder(wishes)] == ["1", "2"]
        with pytest.raises(SourceClosed):
            harness.ask(wishes, Wish("", "3"))


def complete(event: Event[Wish], ctx: Context) -> Complete:
    return Complete(event.data.does)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_dies_anywhere_answers_once(point: str, fuse: Fuse) -> None:
    wants = ["reply nothing", "thrice late", "wait reply", "fail", "terminate", "nothing"]
    workflow, wishes, _ = wishing(fuse)
    told: list[str] = []
    with Harness(workflow) as harness:
        harness._engine.store._on_reply = lambda reply: told.append(reply.request)
        harness.crash_at(point)
        asked = [harness.ask(wishes, Wish(does, does)) for does in wants]
        harness.advance(5 * SECOND)

        kinds = ["reply", "reply", "waiting", "failed", "ended", "done"]
        assert [one.answer.kind for one in asked] == kinds
        assert sorted(told) == sorted(one.id for one in asked)


def test_answers_are_kept_for_as_long_as_the_workflow_says() -> None:
    workflow, wishes, _ = wishing(reply_retention=timedelta(hours=1))
    with Harness(workflow) as harness:
        asked = harness.ask(wishes, Wish("a", "nothing"))
        harness.advance(timedelta(minutes=59))
        assert asked.answer is not None

        harness.advance(timedelta(minutes=2))

        assert asked.answer is None


def test_a_request_without_a_reply_says_what_there_is() -> None:
    workflow, wishes, _ = wishing()
    with Harness(workflow) as harness:
        for does, words in {"never": "no answer", "wait": "waits at", "terminate": "is terminated, 'enough'"}.items():
            with pytest.raises(HarnessError, match=words):
                harness.request(wishes, Wish(does, does))
