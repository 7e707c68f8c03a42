"""What a build refuses: every mistake at once, each with its line and a cure."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

import msgspec
import pytest

from headrace import (
    Action,
    BatchNode,
    Complete,
    Context,
    DeadLetterMessage,
    Event,
    Failure,
    Joined,
    KafkaSink,
    KafkaSource,
    MessageSource,
    Node,
    Reject,
    RequestSource,
    Result,
    Source,
    Terminate,
    Timeout,
    Timer,
    WebhookSink,
    Workflow,
    WorkflowError,
)  # fmt: skip


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    text: str


class Urgent(Alert, frozen=True):
    level: int = 1


class Report(msgspec.Struct, frozen=True):
    mean: float


class Stats(msgspec.Struct):
    count: int = 0


class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Mood(Action):
    GOOD = "good"


class Classify(Node[Reading, Stats, Heat]):
    def process(self, event: Event[Reading], ctx: Context[Stats]) -> Heat:
        return Heat.NORMAL


def to_alert(event: Event[Reading], ctx: Context) -> Alert:
    return Alert(event.data.sensor)


def alert_or_report(event: Event[Reading], ctx: Context) -> Alert | Report | None:
    return None


def count(event: Event[Reading], ctx: Context[Stats]) -> None:
    ctx.state.count += 1


def finish(event: Event[Reading], ctx: Context) -> Complete:
    return Complete()


class Volatile(Source[Reading]):
    """A source whose records have no keys."""

    type = Reading

    def __init__(self, name: str = "volatile", key: str | None = None) -> None:
        self.name = name
        self.key = key


def started(name: str = "temperature", **options: Any) -> tuple[Any, Any]:
    workflow = Workflow(name, **options)
    return workflow, workflow.source(KafkaSource("readings", Reading, key="sensor"))


def codes(workflow: Workflow) -> list[tuple[str, str]]:
    return [(problem.subject, problem.code) for problem in workflow.check()]


def only(workflow: Workflow) -> str:
    """The one problem, without its line."""
    (problem,) = workflow.check()
    return str(problem).partition("  ")[2]


def with_node(node: Any, **options: Any) -> Any:
    workflow, readings = started()
    readings.to(workflow.node(node, name="it", **options))
    return workflow


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_every_problem_comes_with_line_and_cure_and_all_at_once() -> None:
    workflow, readings = started()
    alerts = workflow.sink(KafkaSink("alerts", Alert))
    added = line() + 1
    classify = workflow.node(Classify())
    lonely = workflow.node(to_alert)
    readings.to(classify)
    classify.on(Heat.NORMAL).to(None)
    classify.on(Heat.HIGH).to(alerts)
    lonely.to(alerts)

    with pytest.raises(WorkflowError) as caught:
        workflow.compile()

    file = "tests/unit/test_validation.py"
    assert [str(problem).partition(file)[2] for problem in caught.value.problems] == [
        f":{added}  classify: action Heat.CRITICAL has no route. Add: classify.on(Heat.CRITICAL).to(...)",
        f":{added + 1}  to_alert: no source reaches it. Add: readings.to(to_alert), or take it out",
        f":{added + 4}  classify: gives Reading, but alerts takes Alert. Route it to something that takes Reading,"
        " or put a node between that makes one of the other",
    ]
    assert str(caught.value).startswith("workflow 'temperature' has 3 problems:\n")


def test_A02_a_route_for_an_ended_run() -> None:
    workflow, readings = started()
    node = workflow.node(finish)
    after = workflow.node(count)
    readings.to(node, after)
    node.on(Terminate).to(after)
    node.on(Complete).to(after)

    assert codes(workflow) == [("finish", "on-end"), ("finish", "on-end")]
    assert "an inner workflow's Terminate arrives as Failure" in workflow.check()[0].message


def test_A02_the_terminate_of_an_inner_workflow_arrives_as_failure() -> None:
    inner, (workflow, readings) = Workflow("inner"), started()
    inner.source(KafkaSource("inside", Reading, key="sensor")).to(Complete, inner.node(give_up))
    pay = workflow.node(inner)
    readings.to(pay)
    pay.on(Terminate).to(None)
    pay.on(Failure).to(None)
    pay.on(Complete).to(None)

    assert codes(workflow) == [("inner", "on-end")]
    assert workflow.check()[0].cure == "Write inner.on(Failure)"


def give_up(event: Event[Reading], ctx: Context) -> Terminate:
    return Terminate("no more")


def test_A09_a_node_without_any_source_upstream() -> None:
    workflow = Workflow("temperature")
    node = workflow.node(count)
    assert node.name == "count"

    assert only(workflow) == "count: no source reaches it. Add: source.to(count), or take it out"


@pytest.mark.parametrize("target", ["alert", to_alert, Classify(), Workflow("other")])
def test_A13_a_route_to_something_unknown_names_node_and_action(target: Any) -> None:
    workflow, readings = started()
    classify = workflow.node(Classify())
    readings.to(classify)
    classify.on(Heat.NORMAL, Heat.HIGH).to(None)
    classify.on(Heat.CRITICAL).to(target)

    message = only(workflow)

    assert message.startswith("classify: action Heat.CRITICAL is routed to ")
    assert "which is no part of this workflow" in message


def test_A13_a_node_of_another_workflow_is_unknown() -> None:
    other = Workflow("other")
    elsewhere = other.node(count)
    workflow, readings = started()
    readings.to(elsewhere)

    assert only(workflow).startswith("readings: is routed to 'count' of workflow 'other', which is no part")


def test_A14_the_same_action_routed_twice() -> None:
    workflow, readings = started()
    classify, one, other = (
        workflow.node(Classify()),
        workflow.node(count, name="one"),
        workflow.node(count, name="other"),
    )
    readings.to(classify)
    classify.on(Heat.NORMAL).to(None)
    classify.on(Heat.HIGH, Heat.CRITICAL).to(one)
    classify.on(Heat.HIGH).to(other)

    message = only(workflow)

    assert message.startswith("classify: action Heat.HIGH is routed twice, first at ")
    assert message.endswith("Write one route; to send it to both: classify.on(Heat.HIGH).to(one, other)")


def test_A14_a_declared_fan_out_is_fine() -> None:
    workflow, readings = started()
    classify, one, other = (
        workflow.node(Classify()),
        workflow.node(count, name="one"),
        workflow.node(count, name="other"),
    )
    readings.to(classify)
    classify.on(Heat.NORMAL, Heat.HIGH, Heat.CRITICAL).to(one, other)

    assert workflow.check() == []


def test_A14_a_sources_and_datas_routes_are_written_once_too() -> None:
    workflow, readings = started()
    node, alerts = workflow.node(to_alert), workflow.sink(KafkaSink("alerts", Alert))
    readings.to(node)
    readings.to(node)
    node.to(alerts)
    node.to(alerts)
    node.on(Alert).to(alerts, alerts)

    assert [(subject, code) for subject, code in codes(workflow) if code == "routed-twice"] == [
        ("readings", "routed-twice"),
        ("to_alert", "routed-twice"),
        ("to_alert", "routed-twice"),
    ]


@pytest.mark.parametrize(
    ("match", "code"),
    [
        (Mood.GOOD, "never-returned"),
        (Report, "never-returned"),
        (Timeout, "never-returned"),
        ("high", "no-action"),
        (Enum("Plain", "HIGH").HIGH, "no-action"),  # type: ignore[attr-defined]
        (7, "no-action"),
    ],
)
def test_a_route_that_nothing_can_take(match: Any, code: str) -> None:
    workflow, readings = started()
    classify = workflow.node(Classify())
    readings.to(classify)
    classify.on(*Heat).to(None)
    classify.on(match).to(None)

    assert codes(workflow) == [("classify", code)]


def test_data_routed_although_only_actions_are_returned() -> None:
    workflow, readings = started()
    classify = workflow.node(Classify())
    readings.to(classify)
    classify.on(*Heat).to(None)
    classify.to(None)

    assert codes(workflow) == [("classify", "never-returned")]


def test_a_string_as_an_action_says_what_to_write() -> None:
    def high(event: Event[Reading], ctx: Context) -> str:
        return "high"

    workflow = with_node(high)

    assert only(workflow) == "it: the str it returns has no route. Add: it.to(...), or it.to(None) to drop it"

    workflow, readings = started()
    node = workflow.node(high)
    readings.to(node)
    node.on(Heat.HIGH).to(None)
    node.to(None)

    assert only(workflow) == (
        "high: action Heat.HIGH has a route, but its return annotation says str."
        " Write the enum in its return annotation: -> Heat, or take the route out"
    )


@pytest.mark.parametrize("route_reports", [False, True])
def test_all_data_of_a_union_needs_a_route(route_reports: bool) -> None:
    workflow, readings = started()
    node = workflow.node(alert_or_report)
    readings.to(node)
    node.on(Alert).to(None)
    if route_reports:
        node.to(None)

    assert codes(workflow) == ([] if route_reports else [("alert_or_report", "no-route")])


def test_a_route_by_a_subclass_or_a_base_class_is_fine() -> None:
    def either(event: Event[Reading], ctx: Context) -> Alert:
        return Urgent("hot")

    def urgent(event: Event[Reading], ctx: Context) -> Urgent:
        return Urgent("hot")

    workflow, readings = started()
    by_subclass, by_base = workflow.node(either), workflow.node(urgent)
    readings.to(by_subclass, by_base)
    by_subclass.on(Urgent).to(None)
    by_subclass.to(None)
    by_base.on(Alert).to(None)

    assert workflow.check() == []


@pytest.mark.parametrize(
    ("annotation", "fits"),
    [(Reading, True), (Reading | Alert, True), (object, True), (Any, True), (Alert, False), (dict[str, int], False)],
)
def test_a_node_gets_only_data_that_it_takes(annotation: Any, fits: bool) -> None:
    def take(event: Any, ctx: Context) -> None: ...

    take.__annotations__["event"] = Event[annotation]

    assert codes(with_node(take)) == ([] if fits else [("readings", "type")])


def test_what_a_node_returns_is_checked_against_the_sink() -> None:
    workflow, readings = started()
    node, reports = workflow.node(alert_or_report), workflow.sink(KafkaSink("reports", Report))
    readings.to(node)
    node.to(reports)

    assert only(workflow).startswith("alert_or_report: gives Alert, but reports takes Report.")


def unread(event: Event[Reading], ctx: Context) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821


def no_return(event: Event[Reading], ctx: Context): ...  # type: ignore[no-untyped-def]


def no_event(event, ctx: Context) -> None: ...  # type: ignore[no-untyped-def]


def bare_event(event: Event, ctx: Context) -> None: ...  # type: ignore[type-arg]


def no_context(event: Event[Reading], ctx) -> None: ...  # type: ignore[no-untyped-def]


def one_argument(event: Event[Reading]) -> None: ...


def anything(event: Event[Reading], ctx: Context) -> Any: ...


def abstract(event: Event[Reading], ctx: Context) -> Sequence[Alert]: ...  # type: ignore[empty-body]


def bare_list(event: Event[Reading], ctx: Context) -> list: ...  # type: ignore[type-arg, empty-body]


def look_alike(event: Event[Reading], ctx: Context) -> dict[str, int] | dict[str, str]: ...  # type: ignore[empty-body]


def rejecting(event: Event[Reading], ctx: Context) -> Reject: ...  # type: ignore[empty-body]


class NoProcess(Node[Reading]):
    pass


class TwoStates(Node[Reading, Stats]):
    def process(self, event: Event[Reading], ctx: Context[Report]) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("node", "code", "cure"),
    [
        (unread, "annotation", "Define the types it names at module level"),
        (no_return, "return-type", "Add a return annotation"),
        (no_event, "event-type", "Write: def it(event: Event[Reading], ctx: Context)"),
        (bare_event, "event-type", "Write: def it(event: Event[Reading], ctx: Context)"),
        (no_context, "context", "Write: ctx: Context"),
        (one_argument, "signature", "Let it take two arguments: (event, ctx)"),
        (anything, "return-type", "Write the class in the return annotation"),
        (abstract, "return-type", "Write the class in the return annotation"),
        (bare_list, "return-type", "Write: list[Alert]"),
        (look_alike, "ambiguous", "Wrap one of them in a struct"),
        (rejecting, "return-type", "Raise it: raise Reject('reason')"),
        (NoProcess(), "process", "Add: def process(self, event, ctx): ..."),
        (TwoStates(), "state", "Write the same type in both places"),
        (Classify, "class", "Write: workflow.node(Classify())"),
        ("classify", "node", "Give a function, or an instance"),
        (lambda event, ctx: None, "event-type", "Write: def it(event: Event[Reading]"),
    ],
)
def test_a_node_that_does_not_say_what_it_does(node: Any, code: str, cure: str) -> None:
    problem = with_node(node).check()[0]

    assert problem.code == code
    assert problem.cure.startswith(cure)


def test_a_lambda_needs_a_name() -> None:
    workflow, readings = started()
    readings.to(workflow.node(lambda event, ctx: None))

    assert ("<lambda>", "name") in codes(workflow)


def test_types_local_to_a_function_are_found() -> None:
    class Local(msgspec.Struct, frozen=True):
        text: str

    class Once(Action):
        DONE = "done"

    def make(event: Event[Reading], ctx: Context) -> Local | Once:
        return Once.DONE

    workflow, readings = started()
    node = workflow.node(make)
    readings.to(node)
    node.on(Local).to(None)
    node.on(Once.DONE).to(None)

    assert workflow.check() == []


T = TypeVar("T")


class Same(Node[T, None, T], Generic[T]):
    def process(self, event: Event[T], ctx: Context) -> list[T] | None:
        return [event.data]


class SameReading(Same[Reading]):
    pass


class Batch(BatchNode[Reading, None, Alert]):
    async def process(self, events: Sequence[Event[Reading]], ctxs: Sequence[Context]) -> list[Alert | Reject | None]:
        return []


def everything(event: Event[Reading], ctx: Context) -> Result[Alert]:
    return None


def one_of(event: Event[Reading], ctx: Context) -> Literal[Heat.HIGH] | Alert:
    return Heat.HIGH


@pytest.mark.parametrize(("node", "given"), [(SameReading(), Reading), (Batch(), Alert), (everything, Alert)])
def test_generic_batch_and_result_annotations_are_read(node: Any, given: type) -> None:
    workflow, readings = started()
    it = workflow.node(node)
    readings.to(it)
    it.on(given).to(None)

    assert workflow.check() == []


def test_a_literal_of_actions_needs_routes_for_its_members_only() -> None:
    workflow, readings = started()
    it = workflow.node(one_of)
    readings.to(it)
    it.on(Heat.HIGH).to(None)
    it.to(None)

    assert workflow.check() == []


class Needy(msgspec.Struct):
    count: int


class Opaque(msgspec.Struct):
    lock: Heat | None = None
    thing: Workflow | None = None


@pytest.mark.parametrize("state", [Needy, Opaque])
def test_a_state_that_cannot_be_kept(state: Any) -> None:
    def keep(event: Event[Reading], ctx: Any) -> None: ...

    keep.__annotations__["ctx"] = Context[state]

    assert codes(with_node(keep)) == [("it", "state-type")]
    assert ("shared", "state-type") in codes(Workflow("shared", state=state))


def test_the_runs_state_is_the_workflows() -> None:
    def share(event: Event[Reading], ctx: Context[None, Stats]) -> None: ...

    assert codes(with_node(share)) == [("it", "run-state")]
    workflow, readings = started(state=Stats)
    readings.to(workflow.node(share))
    assert workflow.check() == []


def test_a_key_that_the_type_does_not_have() -> None:
    workflow = Workflow("temperature")
    workflow.source(KafkaSource("readings", Reading, key="sensr")).to(None)

    assert only(workflow) == (
        "readings: Reading has no field 'sensr' to take the key from. Write key= with one of 'sensor', 'celsius'"
    )


@pytest.mark.parametrize(("source", "keyed", "fine"), [
    (KafkaSource("readings", Reading), True, True),
    (RequestSource(Reading), True, True),
    (Volatile(), True, False),
    (Volatile(key="sensor"), True, True),
    (Volatile(), False, True),
])  # fmt: skip
def test_a_keyed_workflow_needs_keys(source: Source[Reading], keyed: bool, fine: bool) -> None:
    workflow = Workflow("temperature", keyed=keyed)
    workflow.source(source).to(None)

    assert codes(workflow) == ([] if fine else [("volatile", "key")])


@pytest.mark.parametrize("name", ["", "Temperature", "a b", "-a", "a/b", "ä", "{a}"])
def test_a_workflows_name_can_be_part_of_a_key(name: str) -> None:
    workflow, readings = started(name)
    readings.to(None)

    assert codes(workflow) == [(name, "name")]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"partitions": 0}, "number"),
        ({"partitions": True}, "number"),
        ({"partitions": 4, "keyed": False}, "number"),
        ({"fuse": "some"}, "fuse"),
    ],
)
def test_bad_options_of_a_workflow(options: dict[str, Any], code: str) -> None:
    workflow, readings = started(**options)
    readings.to(None)

    assert codes(workflow) == [("temperature", code)]


@pytest.mark.parametrize(
    "options",
    [
        {"replicas": 0}, {"replicas": 1.5}, {"cpus": -1}, {"gpus": float("nan")}, {"resources": {"tpu": "one"}},
        {"batch_size": 10}, {"batch_delay": timedelta(seconds=1)},
    ],
)  # fmt: skip
def test_bad_options_of_a_node(options: dict[str, Any]) -> None:
    assert codes(with_node(count, **options)) == [("it", "number")]


def test_names_are_unique() -> None:
    workflow, readings = started()
    readings.to(workflow.node(count), workflow.node(count))

    assert codes(workflow) == [("count", "duplicate-name")]


def test_an_empty_workflow_and_idle_parts() -> None:
    assert codes(Workflow("nothing")) == [("nothing", "empty")]
    workflow, _ = started()
    workflow.sink(KafkaSink("alerts", Alert))
    assert codes(workflow) == [("readings", "no-route"), ("alerts", "unreached")]


def test_routes_without_anything() -> None:
    workflow, readings = started()
    node = workflow.node(to_alert)
    readings.to(node)
    node.on().to(None)
    node.to()

    assert codes(workflow) == [("to_alert", "empty"), ("to_alert", "unknown-target")]


def test_what_is_no_source_and_no_sink() -> None:
    workflow: Any = Workflow("temperature")
    workflow.source(KafkaSource).to(workflow.sink("alerts"))

    assert [code for _, code in codes(workflow)] == ["source", "sink"]


def test_data_that_cannot_travel() -> None:
    workflow = Workflow("temperature", keyed=False)
    workflow.source(RequestSource(Workflow)).to(None)

    assert only(workflow).startswith("requests: Workflow can't travel as JSON: msgspec can't decode `Workflow`.")


def test_fused_nodes_agree() -> None:
    workflow, readings = started()
    one, other = workflow.node(count, name="one", replicas=2), workflow.node(count, name="other")
    readings.to(one, other)
    workflow.fuse(one, other)
    workflow.fuse(one)

    assert codes(workflow) == [("temperature", "fuse"), ("one", "fuse")]
    assert "one 2, other 1" in workflow.check()[0].message


def test_a_node_with_a_gpu_is_not_run_inside_the_worker() -> None:
    workflow = with_node(count, gpus=1)

    assert workflow.check() == []
    assert [problem.code for problem in workflow.check(fuse="all")] == ["fuse"]


class Acts(Node[Reading, None, Heat]):
    def process(self, event: Event[Reading], ctx: Context) -> Heat:
        return Heat.HIGH

    def on_timer(self, timer: Timer, ctx: Context) -> Heat:
        return Heat.HIGH


class HalfAsync(Node[Reading]):
    def process(self, event: Event[Reading], ctx: Context) -> None: ...

    async def on_timer(self, timer: Timer, ctx: Context) -> None: ...


class NoArguments(Node[Reading]):
    def process(self, event: Event[Reading], ctx: Context) -> None: ...

    def on_timer(self) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("node", "said"),
    [(Acts(), "returns an action"), (HalfAsync(), "one of process and on_timer"), (NoArguments(), "(timer, ctx)")],
)
def test_on_timer_is_called_as_process_is(node: Any, said: str) -> None:
    problems = with_node(node).check()

    assert [problem.code for problem in problems if said in problem.message] == ["on-timer"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"idle": timedelta(1), "total": timedelta(2)},
        {"idle": timedelta(0)},
        {"total": timedelta(days=5000)},
        {"idle": -timedelta(1)},
        {"idle": 5},
    ],
)
def test_an_absurd_timeout_is_a_mistake(given: Any) -> None:
    workflow = with_node(count)
    workflow.timeout(**given)

    assert [problem.code for problem in workflow.check()] == ["timeout"]


def test_a_workflow_has_one_timeout_of_a_kind() -> None:
    workflow = with_node(count)
    workflow.timeout(idle=timedelta(1))
    workflow.timeout(total=timedelta(1))
    workflow.timeout(idle=timedelta(2))

    assert ["a time-out with idle= was added" in problem.message for problem in workflow.check()] == [True]


def waiting(**options: Any) -> tuple[Workflow, Any, Any]:
    workflow = Workflow("temperature")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    approvals = workflow.source(MessageSource("approval", Reading))
    wait = workflow.wait(approvals, **options)
    readings.to(wait)
    wait.to(None)
    return workflow, approvals, wait


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(days=4000), 5])
def test_an_absurd_time_to_wait_is_a_mistake(timeout: Any) -> None:
    workflow, _, _ = waiting(timeout=timeout)

    assert [problem.code for problem in workflow.check()] == ["wait"]


def test_a_wait_is_over_only_with_a_timeout_and_has_no_other_outcome() -> None:
    workflow, _, wait = waiting()
    wait.on(Timeout).to(None)
    wait.on(Failure).to(None)

    assert [problem.code for problem in workflow.check()] == ["wait", "wait"]


def test_messages_go_on_from_waits_only() -> None:
    workflow, approvals, _ = waiting()
    approvals.to(None)
    workflow.source(MessageSource("other", Reading))

    assert [problem.code for problem in workflow.check()] == ["wait", "wait"]


def test_two_waits_on_one_source_have_names_of_their_own() -> None:
    workflow, approvals, _ = waiting()
    second = workflow.wait(approvals)
    second.to(None)

    assert {problem.code for problem in workflow.check()} == {"duplicate-name", "unreached"}


def test_joins_and_sinks_of_dead_letters_inside_are_accepted_and_drawn_and_their_mistakes_named() -> None:
    def meet(event: Event[Joined[tuple[Alert | None, Report | None]]], ctx: Context) -> Complete:
        return Complete()

    def report(event: Event[Reading], ctx: Context) -> list[Report]:
        return []

    inner, inside = started("inner")
    alerting, reporting = inner.node(to_alert), inner.node(report)
    inside.to(alerting, reporting)
    joined = inner.join(alerting, reporting, name="both")
    joined.to(inner.node(meet))
    inner.dead_letters.to(inner.sink(KafkaSink("letters", DeadLetterMessage)))
    workflow, readings = started()
    node = workflow.node(inner, name="inner")
    readings.to(node)
    node.on(Complete).to(None)

    (problem,) = workflow.check()

    assert problem.subject == "inner/report"
    assert problem.message.startswith("may return a list, and so give report of a join several times")
    assert '["inner/both (all)"]' in workflow.mermaid()


def test_an_address_or_an_option_of_a_webhook_that_cannot_be_used_is_named() -> None:
    workflow, readings = started()
    sinks = [
        WebhookSink(Reading, url="shop.example/hooks", name="a"),
        WebhookSink(Reading, url="https://ann:secret@shop.example/", name="b"),
        WebhookSink(Reading, url="https://shop.example:99999/", name="c"),
        WebhookSink(Reading, url="https://shop.example/", name="d", concurrency=0, attempts=0),
        WebhookSink(Reading, url="https://shop.example/", name="e", call_timeout=timedelta(0)),
        WebhookSink(Reading, url="https://shop.example/", name="f", headers={"Webhook-Id": "1", "X Y": "z", "Z": "ü"}),
        WebhookSink(Reading, url="http://shop/", name="fine", headers={"X-Shop": "main"}, attempts=20),
    ]
    readings.to(*[workflow.sink(sink) for sink in sinks])

    problems = workflow.check()

    assert {problem.code for problem in problems} == {"webhook"}
    assert [problem.subject for problem in problems] == ["a", "b", "c", "d", "d", "e", "f", "f", "f"]
    assert "secret" not in problems[1].message


def test_a_failure_goes_to_what_takes_one() -> None:
    def mend(event: Event[Failure], ctx: Context) -> None: ...

    workflow, readings = started()
    counting, mending = workflow.node(count), workflow.node(mend)
    readings.to(counting)
    counting.on(Failure).to(mending, workflow.sink(KafkaSink("failures", Failure)))

    assert workflow.check() == []

    counting.on(Failure).to(None)
    (problem,) = workflow.check()
    assert problem.code == "routed-twice"
    assert problem.cure == "Write one route; to send it to both: count.on(Failure).to(one, other)"


def test_a_failure_does_not_go_to_what_takes_other_data() -> None:
    workflow, readings = started()
    counting = workflow.node(count)
    readings.to(counting)
    counting.on(Failure).to(workflow.sink(KafkaSink("failures", Reading)))

    (problem,) = workflow.check()

    assert (problem.code, problem.message) == ("type", "gives Failure, but failures takes Reading")


def test_a_node_whose_failures_end_the_run_has_one_event_of_it_at_a_time() -> None:
    workflow, readings = started()
    counting = workflow.node(count)
    readings.to(counting)
    assert not workflow.compile().serial

    counting.on(Failure).to(Terminate)

    assert workflow.compile().serial
    assert workflow.compile().nodes[0].may_end


def test_a_topic_is_read_by_one_source() -> None:
    workflow, readings = started()
    again = workflow.source(KafkaSource(readings.name, Reading, key="sensor", name="again"))
    counting = workflow.node(count)
    readings.to(counting)
    again.to(counting)

    (problem,) = workflow.check()

    assert problem.code == "topic-twice"
    assert problem.cure.endswith("Route that source to both: readings.to(a, b)")
