"""Values of runs: set by nodes, committed with the event, versioned by name."""

from typing import Any, Literal

import msgspec
import pytest

from headrace import Complete, Context, Event, Failure, KafkaSink, KafkaSource, Linear, Node, Retry, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.values import MOST, RUN_CAP, VALUE_CAP

Fuse = Literal["all"] | None


class Put(msgspec.Struct, frozen=True):
    key: str
    name: Any
    value: Any = None
    then: str = ""
    size: int = 0


def put(event: Event[Put], ctx: Context) -> Put | Complete:
    data = event.data
    ctx.set_value(data.name, data.value if not data.size else "x" * data.size)
    if "twice" in data.then:
        ctx.set_value(data.name, [data.value])
    if "fail" in data.then:
        raise ValueError("no")
    if "again" in data.then and ctx.attempt == 1:
        raise OSError("not now")
    return Complete("done") if "complete" in data.then else data


def putting(fuse: Fuse = None, then: Any = None) -> Any:
    workflow = Workflow("values", fuse=fuse)
    puts = workflow.source(KafkaSource("puts", Put, key="key"))
    node = workflow.node(then or put, retry=Retry(2, on=(OSError,), backoff=Linear()))
    puts.to(node)
    node.to(None)
    return workflow, puts, node


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


def test_E01_values_that_a_run_has_set_are_there_when_it_has_completed(fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send_all(puts, [Put("a", "k1", 1), Put("a", "k2", {"x": [2]}, then="complete")])

        assert harness.runs["a"].status == "completed"
        assert harness.runs["a"].values == {"k1": 1, "k2": {"x": [2]}}


def test_E02_null_is_a_value(fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send(puts, Put("a", "k", None))

        assert harness.runs["a"].values == {"k": None}
        assert (harness.runs["a"].version("k"), harness.runs["a"].version("other")) == (1, 0)


@pytest.mark.parametrize("together", [False, True])
def test_E08_each_time_that_it_is_set_the_version_is_one_higher(together: bool, fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        rows = [Put("a", "k", 1), Put("a", "k", 2), Put("b", "k", 9), Put("a", "k", 3, then="twice")]
        if together:
            harness.send_all(puts, rows)
        else:
            for row in rows:
                harness.send(puts, row)

        assert (harness.runs["a"].values, harness.runs["a"].version("k")) == ({"k": [3]}, 4)
        assert harness.runs["b"].version("k") == 1


def test_what_a_failed_attempt_has_set_is_not_there(fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send(puts, Put("a", "good", 1))
        harness.send(puts, Put("a", "bad", 1, then="fail"))
        harness.send(puts, Put("a", "late", 1, then="again"))
        assert harness.runs["a"].values == {"good": 1}

        harness.advance(Linear()(1))

        assert harness.runs["a"].values == {"good": 1, "late": 1}
        assert harness.runs["a"].version("late") == 1


def test_a_key_that_is_used_again_begins_without_values(fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send_all(puts, [Put("a", "k", 1), Put("a", "k", 2, then="complete"), Put("a", "other", 3)])

        assert harness.runs["a"].values == {"other": 3}


def test_values_are_erased_with_their_run(fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send(puts, Put("a", "k", 1))
        harness.runs["a"].delete()
        harness.send(puts, Put("a", "other", 1))

        assert harness.runs["a"].values == {"other": 1}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Put("a", "large", size=VALUE_CAP), "over the cap of 262144 for one value"),
        (Put("a", "", 1), "can't be the name"),
        (Put("a", 7, 1), "can't be the name"),
        (Put("a", "n" * 201, 1), "can't be the name"),
    ],
)
def test_a_value_that_can_not_be_is_an_error_of_its_event(bad: Put, words: str, fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.send(puts, bad)

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.node) == ("value", "put")
        assert words in letter.error
        assert harness.runs["a"].values == {}


@pytest.mark.parametrize("together", [False, True])
def test_a_run_has_so_many_values_and_so_many_bytes_of_them_at_most(together: bool, fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    few = [Put("few", f"k{number}", size=VALUE_CAP - 2) for number in range(RUN_CAP // VALUE_CAP + 1)]
    many = [Put("many", f"k{number}", number) for number in range(MOST + 1)]
    again = [Put("many", "k0", "again"), Put("few", "k0", "small"), Put("few", "k4", "fits")]
    with Harness(workflow) as harness:
        for rows in [few + many + again] if together else [[row] for row in few + many + again]:
            harness.send_all(puts, rows)

        assert [letter.reason for letter in harness.dead_letters] == ["value", "value"]
        assert len(harness.runs["many"].values) == MOST
        assert harness.runs["many"].values["k0"] == "again"
        assert list(harness.runs["few"].values) == ["k0", "k1", "k2", "k3", "k4"]


def test_a_node_object_and_a_failure_route_set_values_too(fuse: Fuse) -> None:
    class Fails(Node[Put, dict[str, int], Put]):
        def process(self, event: Event[Put], ctx: Context[dict[str, int]]) -> Put:
            ctx.set_value("never", 1)
            raise ValueError("no")

    def told(event: Event[Failure], ctx: Context) -> None:
        ctx.set_value("error", event.data.error)

    workflow = Workflow("values", fuse=fuse)
    puts = workflow.source(KafkaSource("puts", Put, key="key"))
    fails, tells = workflow.node(Fails()), workflow.node(told)
    sink = workflow.sink(KafkaSink("out", Put))
    puts.to(fails)
    fails.to(sink)
    fails.on(Failure).to(tells)
    with Harness(workflow) as harness:
        harness.send(puts, Put("a", "k"))

        assert harness.runs["a"].values == {"error": "ValueError: no"}


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_dies_anywhere_sets_each_once(point: str, fuse: Fuse) -> None:
    workflow, puts, _ = putting(fuse)
    with Harness(workflow) as harness:
        harness.crash_at(point)
        for number in range(3):
            harness.send(puts, Put("a", "k", number))

        assert (harness.runs["a"].values, harness.runs["a"].version("k")) == ({"k": 2}, 3)
