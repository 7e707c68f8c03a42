"""What becomes of a run is told to an address that came with its request: once, with the commit that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import jsonschema
import msgspec
import pytest

from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    Linear,
    MessageSource,
    Reject,
    RequestSource,
    Retry,
    Terminate,
    Workflow,
)
from headrace.cli.callback_check import CallbackRefused, check_callback
from headrace.gateway.documented_callbacks import OCCURRENCE
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.calling_back import HEADER, callback_id
from headrace.workflows.commit import Callback

URL = "https://shop.example/hooks"
SECOND = timedelta(seconds=1)
Fuse = Literal["all"] | None


class Order(msgspec.Struct, frozen=True):
    key: str
    does: str


class Word(msgspec.Struct, frozen=True):
    text: str


def take(event: Event[Order], ctx: Context) -> Complete | Terminate | Order | None:
    match event.data.does:
        case "complete":
            return Complete({"paid": True})
        case "terminate":
            return Terminate("enough")
        case "reject":
            raise Reject("not that")
        case "later" if ctx.attempt < 3:
            raise OSError("not now")
        case "nothing" | "later":
            return None
    return event.data


def heard(event: Event[Word], ctx: Context) -> Word | Complete:
    return Complete("done") if event.data.text == "done" else event.data


def ordering(fuse: Fuse = None, callback: str | None = None) -> Any:
    workflow = Workflow("orders", fuse=fuse, callback=callback)
    orders = workflow.source(RequestSource(Order, key="key"))
    words = workflow.source(MessageSource("word", Word))
    retry = Retry(5, on=(OSError,), backoff=Linear(SECOND, timedelta(0)), jitter=0.0)
    first, wait, hears = workflow.node(take, retry=retry), workflow.wait(words), workflow.node(heard)
    orders.to(first)
    first.to(wait)
    wait.to(hears)
    hears.to(wait)
    workflow.timeout(idle=60 * SECOND)
    return workflow, orders, words


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


def put(harness: Harness, source: Any, data: Any, url: str | None = URL, *, key: str = "a") -> None:
    """A request, with an address for callbacks; to be used within `batch`."""
    plan = harness._senders.source(source)
    asked = harness._asking.ask(plan, data, key, None)
    store, partition = harness._engine.store, harness._senders.home(key)
    entry = store._of(partition).streams["inbox"][-1]
    assert entry.event == asked.id
    if url is not None:
        entry.headers = ((HEADER, url.encode()),)


def send(harness: Harness, source: Any, data: Any, url: str | None = URL, *, key: str = "a") -> None:
    with harness.batch():
        put(harness, source, data, url, key=key)


def told(harness: Harness) -> list[Callback]:
    store = harness._engine.store
    return [row for held in store._partitions.values() for row in held.callbacks.values()]


def bodies(harness: Harness) -> list[tuple[str, Any]]:
    found = [msgspec.json.decode(row.body) for row in told(harness)]
    for row in found:
        jsonschema.validate(row, OCCURRENCE)
    return [(row["type"], row["data"]) for row in found]


@pytest.mark.parametrize(
    ("does", "kind", "more"),
    [
        ("complete", "run.completed", {"status": "completed", "result": {"paid": True}}),
        ("terminate", "run.terminated", {"status": "terminated", "reason": "enough"}),
        ("wait", "run.waiting", {"status": "running", "wait": "word", "until": None}),
    ],
)
def test_what_becomes_of_a_run_is_told(does: str, kind: str, more: dict[str, Any], fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", does))

        assert bodies(harness) == [(kind, {"workflow": "orders", "key": "a", "number": 1, **more})]
        assert [row.url for row in told(harness)] == [URL]


def test_a_run_without_an_address_tells_nobody(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "complete"), None)
        send(harness, orders, Order("b", "nothing"), key="b")

        assert told(harness) == []


def test_an_event_that_is_given_up_is_told_and_the_run_goes_on(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "reject"))
        send(harness, orders, Order("a", "complete"), None)

        kinds = [kind for kind, _ in bodies(harness)]
        failed = bodies(harness)[0][1]
        assert kinds == ["run.failed", "run.completed"]
        assert (failed["status"], failed["reason"], failed["node"]) == ("running", "reject", "take")


def test_each_wait_and_the_end_have_ids_of_their_own(fuse: Fuse) -> None:
    workflow, orders, words = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "wait"))
        send(harness, words, Word("again"), None)
        send(harness, words, Word("done"), None)

        rows = told(harness)
        assert [row.type for row in rows] == ["run.waiting", "run.waiting", "run.completed"]
        assert rows[-1].id == callback_id("orders", "a", 1, "ended")
        assert len({row.id for row in rows}) == 3


def test_the_address_stays_with_its_run_and_the_last_one_counts(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    other = "https://other.example/"
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "nothing"))
        send(harness, orders, Order("a", "nothing"), other)
        harness.crash_at(CRASH_POINTS[0])
        send(harness, orders, Order("a", "complete"), None)
        send(harness, orders, Order("a", "complete"), None)  # another run of its key

        assert [(row.type, row.url) for row in told(harness)] == [("run.completed", other)]


def test_of_two_runs_of_a_key_in_one_epoch_each_is_told_with_its_number(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        with harness.batch():
            put(harness, orders, Order("a", "complete"))
            put(harness, orders, Order("a", "terminate"))

        assert [(kind, row["number"]) for kind, row in bodies(harness)] == [
            ("run.completed", 1), ("run.terminated", 2),
        ]  # fmt: skip


def test_the_address_of_an_event_that_stands_still_counts_from_when_it_came(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "later"))
        harness.runs["a"].terminate("by hand")

        assert [(kind, row["reason"]) for kind, row in bodies(harness)] == [("run.terminated", "by hand")]


def test_a_run_that_timed_out_is_told(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "nothing"))
        harness.advance(61 * SECOND)

        assert [kind for kind, _ in bodies(harness)] == ["run.timed_out"]


def test_of_what_is_forgotten_nothing_is_told(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "nothing"))
        harness.runs["a"].delete()

        assert told(harness) == []


def test_what_was_to_be_told_of_a_key_is_forgotten_with_it_and_nothing_of_others(fuse: Fuse) -> None:
    workflow, orders, _ = ordering(fuse)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "reject"))
        send(harness, orders, Order("a", "wait"))
        send(harness, orders, Order("b", "complete"), key="b")
        harness.runs["a"].delete()

        assert [row.run for row in told(harness)] == ["b"]


def test_runs_tell_the_workflows_own_address_unless_a_request_brings_another(fuse: Fuse) -> None:
    other = "https://other.example/"
    workflow, orders, words = ordering(fuse, URL)
    with Harness(workflow) as harness:
        send(harness, orders, Order("a", "wait"), None)
        send(harness, words, Word("done"), None)
        send(harness, orders, Order("b", "wait"), other, key="b")
        harness.runs["b"].terminate("by hand")

        assert [(row.run, row.type, row.url) for row in told(harness)] == [
            ("a", "run.waiting", URL), ("a", "run.completed", URL),
            ("b", "run.waiting", other), ("b", "run.terminated", other),
        ]  # fmt: skip


def test_runs_of_other_sources_tell_the_workflows_own_address(fuse: Fuse) -> None:
    workflow = Workflow("readings", fuse=fuse, callback=URL)
    readings = workflow.source(ChannelSource(Order, capacity=10, key="key"), late="dead-letter")
    node = workflow.node(take)
    readings.to(node)
    node.to(None)
    with Harness(workflow) as harness:
        for does in ("reject", "complete", "too late"):
            harness.send(readings, Order("a", does))

        assert [kind for kind, _ in bodies(harness)] == ["run.failed", "run.completed"]
        assert [letter.reason for letter in harness.dead_letters] == ["reject", "late"]


@pytest.mark.parametrize(
    ("callback", "why"),
    [("shop.example/hooks", "does not begin"), ("https://ann:secret@shop.example/", "or a user"),
     ("https://shop.example/a b", "visible ASCII"), ("https://", "names no host"), (7, "is no text")],
)  # fmt: skip
def test_a_workflow_whose_address_can_t_be_called_is_not_built(callback: Any, why: str) -> None:
    workflow, *_ = ordering(None, callback)

    (problem,) = workflow.check()
    assert (problem.code, why in problem.message) == ("callback", True)
    assert "test_calling_back.py:" in str(problem)


@pytest.mark.parametrize(
    ("url", "address", "options", "refused"),
    [("https://shop.example/", "93.184.215.14", {}, False), ("https://shop.example/", "10.0.0.7", {}, True),
     ("https://shop.example/", "10.0.0.7", {"callback_networks": "10.0.0.0/8"}, False),
     ("http://shop.example/", "93.184.215.14", {}, True),
     ("http://shop.example/", "93.184.215.14", {"callback_plain": "true"}, False)],
)  # fmt: skip
def test_a_workflow_whose_address_gateways_may_not_call_is_not_deployed(
    url: str, address: str, options: dict[str, str], refused: bool
) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return [address]

    plan = ordering(None, url)[0].compile()
    if refused:
        with pytest.raises(CallbackRefused, match="callback= of orders"):
            check_callback(plan, options, resolver)
    else:
        check_callback(plan, options, resolver)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_dies_anywhere_has_one_id_for_each_occurrence(point: str, fuse: Fuse) -> None:
    workflow, orders, words = ordering(fuse)
    with Harness(workflow) as harness:
        harness.crash_at(point)
        send(harness, orders, Order("a", "wait"))
        send(harness, words, Word("done"), None)

        rows = told(harness)
        assert [row.type for row in rows] == ["run.waiting", "run.completed"]
        assert [row.id for row in rows] == [callback_id("orders", "a", 1, what) for what in ("waiting/1", "ended")]
