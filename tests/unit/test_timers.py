"""Timers of nodes and time-outs of runs, in virtual time."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest

from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    Linear,
    Node,
    Retry,
    Terminate,
    Timeout,
    Timer,
    Workflow,
)
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.errors import SourceClosed
from headrace.workflows.handles import SinkHandle, SourceHandle
from headrace.workflows.instructions import Load
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save

Fuse = Literal["all"] | None
SECOND = timedelta(seconds=1)


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Tally(msgspec.Struct):
    count: int = 0


class Watch(Node[Reading, Tally, str]):
    """Says so when a sensor has been quiet for ten seconds; below zero it is switched off."""

    def process(self, event: Event[Reading], ctx: Context[Tally]) -> None:
        ctx.state.count += 1
        if event.data.celsius < 0:
            ctx.cancel_timer("quiet")
        else:
            ctx.set_timer("quiet", after=10 * SECOND)
        if event.data.celsius > 100:
            raise ValueError("too hot")

    def on_timer(self, timer: Timer, ctx: Context[Tally]) -> str:
        ctx.state.count += 100
        return f"{ctx.run.key}: {timer.name} at {timer.due:%M:%S}, seen {ctx.state.count}"


def passing(event: Event[Reading], ctx: Context) -> Reading:
    return event.data


def watched(fuse: Fuse = None, node: Node[Reading, Any, str] | None = None, **options: Any) -> Any:
    """Workflow, source, sink, node: an event passes one node, and is watched at the next."""
    workflow = Workflow("watch", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    said = workflow.sink(KafkaSink("said", str))
    first, watch = workflow.node(passing), workflow.node(node or Watch(), name="watch", **options)
    readings.to(first)
    first.to(watch)
    watch.to(said)
    return workflow, readings, said, watch


def index_of(harness: Harness) -> dict[str, int]:
    """All that is to fall due, of all partitions."""
    store = harness._engine.store
    return {
        member: due for number in range(harness._partitions) for member, due in store.timers(number, 1 << 62, 1000)[0]
    }


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


def test_a_timer_falls_due_once_and_not_early(fuse: Fuse) -> None:
    workflow, readings, said, watch = watched(fuse)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(10 * SECOND - timedelta(milliseconds=1))
        assert harness.sent(said) == []

        harness.advance(timedelta(milliseconds=1))
        assert harness.sent(said) == ["a: quiet at 00:10, seen 101"]
        harness.advance(timedelta(days=1))

        assert harness.sent(said) == ["a: quiet at 00:10, seen 101"]
        assert harness.runs["a"].state(watch) == Tally(101)
        assert index_of(harness) == {}


def test_setting_a_timer_again_replaces_it_and_cancelling_takes_it_back(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.send(readings, Reading("b", 1))
        harness.advance(6 * SECOND)
        harness.send(readings, Reading("a", 1))
        harness.send(readings, Reading("b", -1))
        harness.advance(9 * SECOND)
        assert harness.sent(said) == []
        harness.advance(SECOND)

        assert harness.sent(said) == ["a: quiet at 00:16, seen 102"]


def test_timers_are_of_their_run(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse)
    with Harness(workflow) as harness:
        for number, key in enumerate("abc"):
            harness.send(readings, Reading(key, 1))
            harness.advance(SECOND * (number + 1))
        harness.advance(20 * SECOND)

        assert [line[:19] for line in harness.sent(said)] == [
            "a: quiet at 00:10, ", "b: quiet at 00:11, ", "c: quiet at 00:13, ",
        ]  # fmt: skip


def test_what_a_failed_event_has_set_is_not_kept(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 101))
        assert [letter.reason for letter in harness.dead_letters] == ["error"]
        harness.advance(timedelta(hours=1))

        assert harness.sent(said) == []


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("turn", ["", ":2", ":3"])
def test_a_timer_takes_effect_once_wherever_the_process_dies(point: str, turn: str, fuse: Fuse) -> None:
    workflow, readings, said, watch = watched(fuse)
    with Harness(workflow) as harness:
        harness.crash_at(point + turn)
        harness.send(readings, Reading("a", 1))
        harness.advance(5 * SECOND)
        harness.send(readings, Reading("a", 2))
        harness.advance(30 * SECOND)

        assert harness.sent(said, unique=True) == ["a: quiet at 00:15, seen 102"]
        assert harness.runs["a"].state(watch) == Tally(102)


def test_what_fell_due_while_nobody_was_there_comes_behind_what_lay_in_the_log(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        with harness.batch():
            harness.send(readings, Reading("a", -1))  # it came in time: nobody was there to read it
            harness._batching = False
            harness._engine.now += 60_000
            harness._batching = True
        harness.advance(60 * SECOND)

        assert harness.sent(said) == []


class Again(Node[Reading, Tally, str]):
    def process(self, event: Event[Reading], ctx: Context[Tally]) -> None:
        ctx.set_timer("again", after=timedelta(0))

    def on_timer(self, timer: Timer, ctx: Context[Tally]) -> str:
        ctx.state.count += 1
        if ctx.state.count < 5:
            ctx.set_timer("again", after=timedelta(0))
        return f"{ctx.state.count} {timer.due:%M:%S}"


def test_a_timer_may_set_itself_again_at_once(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse, Again())
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))

        assert harness.sent(said) == [f"{number} 00:00" for number in range(1, 6)]
        assert len({message.id for message in harness.messages(said)}) == 5


class Puts(Node[Reading, None, str]):
    """One timer puts the other off, and takes a third back."""

    def process(self, event: Event[Reading], ctx: Context) -> None:
        for seconds, name in enumerate(("first", "second", "third"), 1):
            ctx.set_timer(name, after=seconds * SECOND)

    def on_timer(self, timer: Timer, ctx: Context) -> str:
        if timer.name == "first":
            ctx.set_timer("second", after=60 * SECOND)
            ctx.cancel_timer("third")
        return f"{timer.name} at {timer.due:%M:%S}"


def test_of_timers_that_were_missed_together_one_may_put_off_another(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse, Puts())
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.outage(30 * SECOND)
        assert harness.sent(said) == ["first at 00:01"]
        harness.advance(90 * SECOND)

        assert harness.sent(said) == ["first at 00:01", "second at 01:30"]


class Flaky(Node[Reading, Tally, str]):
    def __init__(self, failures: int) -> None:
        self.failures = failures

    def process(self, event: Event[Reading], ctx: Context[Tally]) -> None:
        ctx.state.count += 1
        ctx.set_timer("try", after=SECOND)

    def on_timer(self, timer: Timer, ctx: Context[Tally]) -> str:
        if self.failures >= ctx.attempt:
            raise OSError("not now")
        return f"attempt {ctx.attempt}, seen {ctx.state.count} at {ctx.now:%M:%S}"


def test_a_timer_whose_node_fails_is_tried_again_before_what_came_after_it(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(
        fuse, Flaky(2), retry=Retry(5, backoff=Linear(10 * SECOND, 0 * SECOND), jitter=0)
    )
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(2 * SECOND)
        harness.send(readings, Reading("a", 1))  # sets it anew, behind
        harness.advance(60 * SECOND)

        assert harness.sent(said)[0] == "attempt 3, seen 1 at 00:21"
        assert harness.dead_letters == []


def test_a_timer_whose_node_fails_for_good_is_a_dead_letter_that_can_go_back(fuse: Fuse) -> None:
    flaky = Flaky(1)
    workflow, readings, said, _ = watched(fuse, flaky)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(SECOND)
        [letter] = harness.dead_letters
        assert (letter.node, letter.key, letter.reason) == ("watch", "a", "error")
        flaky.failures = 0
        harness.replay()

        assert harness.sent(said) == ["attempt 1, seen 1 at 00:01"]


def no_timers(event: Event[Reading], ctx: Context) -> str:
    ctx.set_timer("x", after=SECOND)
    return ""


class Absurd(Node[Reading, None, str]):
    def process(self, event: Event[Reading], ctx: Context) -> None:
        if event.data.celsius == 1:
            ctx.set_timer("", after=SECOND)
        if event.data.celsius == 2:
            ctx.set_timer("x", after=-SECOND)
        if event.data.celsius == 3:
            ctx.set_timer("x", after=timedelta(days=4000))
        if event.data.celsius == 4:
            ctx.set_timer("x", after=5)  # type: ignore[arg-type]

    def on_timer(self, timer: Timer, ctx: Context) -> str:
        return "never"


def test_an_absurd_timer_is_an_error_of_its_event_which_is_not_tried_again() -> None:
    workflow, readings, said, _ = watched(None, Absurd(), retry=Retry(5))
    with Harness(workflow) as harness:
        harness.send_all(readings, [Reading("a", number) for number in (1, 2, 3, 4)])
        assert [letter.attempts for letter in harness.dead_letters] == [1, 1, 1, 1]

        harness.advance(timedelta(days=5000))

        assert harness.sent(said) == []


def test_only_a_node_with_on_timer_may_set_timers() -> None:
    workflow = Workflow("watch")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    node = workflow.node(no_timers)
    readings.to(node)
    node.to(None)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))

        assert "no_timers has no on_timer" in harness.dead_letters[0].error


class WatchAsync(Node[Reading, Tally, str]):
    async def process(self, event: Event[Reading], ctx: Context[Tally]) -> None:
        ctx.set_timer("quiet", after=10 * SECOND)

    async def on_timer(self, timer: Timer, ctx: Context[Tally]) -> str:
        return timer.name


def test_timers_of_an_async_node(fuse: Fuse) -> None:
    workflow, readings, said, _ = watched(fuse, WatchAsync())
    with Harness(workflow) as harness:
        harness.send_all(readings, [Reading("a", 1), Reading("b", 1)])
        harness.advance(10 * SECOND)

        assert harness.sent(said) == ["quiet", "quiet"]


class UntilTimer(Node[Reading, Tally, Complete]):
    def process(self, event: Event[Reading], ctx: Context[Tally]) -> Complete | None:
        ctx.state.count += 1
        ctx.set_timer("a", after=SECOND)
        ctx.set_timer("b", after=SECOND)
        return Complete("by an event") if event.data.celsius > 9 else None

    def on_timer(self, timer: Timer, ctx: Context[Tally]) -> Complete:
        return Complete(f"by timer {timer.name}")


def test_a_run_that_ends_has_no_timers_any_more(fuse: Fuse) -> None:
    workflow = Workflow("until", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    first, node = workflow.node(passing), workflow.node(UntilTimer())
    readings.to(first)
    first.to(node)
    with Harness(workflow) as harness:
        harness.send_all(readings, [Reading("a", 1), Reading("b", 10), Reading("b", 1)])
        number = harness.runs["b"].number
        assert len(index_of(harness)) == 4
        harness.advance(SECOND)

        assert [(harness.runs[key].status, harness.runs[key].result) for key in "ab"] == [
            ("completed", "by timer a"), ("completed", "by timer a"),
        ]  # fmt: skip
        assert harness.runs["b"].number == number
        assert index_of(harness) == {}


# Time-outs of the workflow


def silent(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key} after {event.data.after.total_seconds():g} s at {event.time:%M:%S}"


def counting(event: Event[Reading], ctx: Context[Tally]) -> None:
    ctx.state.count += 1


def timed(fuse: Fuse = None, **limits: timedelta) -> tuple[Workflow, SourceHandle[Reading], SinkHandle[str], Any]:
    workflow = Workflow("timed", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    said = workflow.sink(KafkaSink("said", str))
    readings.to(workflow.node(counting))
    timeouts = {word: workflow.timeout(**{word: limit}) for word, limit in limits.items()}
    quiet = workflow.node(silent)
    quiet.to(said)
    return workflow, readings, said, (timeouts, quiet)


def test_an_idle_run_is_told_so_once_for_each_silence(fuse: Fuse) -> None:
    workflow, readings, said, (timeouts, quiet) = timed(fuse, idle=10 * SECOND)
    timeouts["idle"].to(quiet)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(9 * SECOND)
        harness.send(readings, Reading("a", 1))
        harness.advance(9 * SECOND)
        assert harness.sent(said) == []
        harness.advance(100 * SECOND)
        assert harness.sent(said) == ["a after 10 s at 00:19"]
        harness.send(readings, Reading("a", 1))
        harness.advance(100 * SECOND)

        assert harness.sent(said) == ["a after 10 s at 00:19", "a after 10 s at 02:08"]
        assert harness.runs["a"].status == "running"


def test_an_event_that_came_in_time_keeps_its_run_from_being_idle_though_it_was_read_late(fuse: Fuse) -> None:
    workflow, readings, said, (timeouts, quiet) = timed(fuse, idle=10 * SECOND)
    timeouts["idle"].to(quiet)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        with harness.batch():
            harness.send(readings, Reading("a", 1))
            harness._engine.now += 9_999
        harness.advance(timedelta(milliseconds=1))
        assert harness.sent(said) == []
        harness.advance(10 * SECOND)

        assert len(harness.sent(said)) == 1


def test_a_total_time_counts_from_the_first_event(fuse: Fuse) -> None:
    workflow, readings, said, (timeouts, quiet) = timed(fuse, total=10 * SECOND)
    timeouts["total"].to(quiet)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(9 * SECOND)
        harness.send(readings, Reading("a", 1))
        harness.advance(100 * SECOND)

        assert harness.sent(said) == ["a after 10 s at 00:10"]


def test_a_timeout_without_a_route_ends_the_run_as_timed_out(fuse: Fuse) -> None:
    workflow, readings, _, (timeouts, quiet) = timed(fuse, idle=10 * SECOND, total=15 * SECOND)
    timeouts["total"].to(quiet)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(60 * SECOND)

        assert harness.runs["a"].status == "timed out"
        assert index_of(harness) == {}
        harness.send(readings, Reading("a", 1))
        assert (harness.runs["a"].status, harness.runs["a"].number) == ("running", 2)


def test_a_timeout_may_complete_the_run(fuse: Fuse) -> None:
    workflow, readings, _, (timeouts, quiet) = timed(fuse, idle=10 * SECOND, total=10 * SECOND)
    timeouts["idle"].to(Complete)
    timeouts["total"].to(quiet)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(10 * SECOND)

        assert harness.runs["a"].status == "completed"
        assert index_of(harness) == {}


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("turn", ["", ":2", ":3"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_timeout_takes_effect_once_wherever_the_process_dies(point: str, turn: str, ends: bool, fuse: Fuse) -> None:
    workflow, readings, said, (timeouts, quiet) = timed(fuse, idle=10 * SECOND, total=45 * SECOND)
    timeouts["idle"].to(quiet)
    if not ends:
        timeouts["total"].to(quiet)
    with Harness(workflow) as harness:
        harness.crash_at(point + turn)
        harness.send(readings, Reading("a", 1))
        harness.advance(5 * SECOND)
        harness.send(readings, Reading("a", 2))
        harness.advance(60 * SECOND)

        expected = ["a after 10 s at 00:15"] + ([] if ends else ["a after 45 s at 00:45"])
        assert harness.sent(said, unique=True) == expected
        assert harness.runs["a"].status == ("timed out" if ends else "running")


def test_A18_an_unkeyed_workflow_times_out_without_events(fuse: Fuse) -> None:
    workflow = Workflow("lone", keyed=False, fuse=fuse)
    lines = workflow.source(ChannelSource(str, capacity=3, name="lines"))
    lines.to(None)
    workflow.timeout(total=timedelta(milliseconds=50))
    with Harness(workflow) as harness:
        harness.advance(timedelta(milliseconds=49))
        assert harness.runs[""].status == "running"
        harness.advance(timedelta(milliseconds=1))

        assert harness.runs[""].status == "timed out"
        with pytest.raises(SourceClosed):
            harness.send(lines, "late")


class Slow(Node[str, Tally, str]):
    """Time passes while it runs, as a clock does."""

    harness: Harness

    def process(self, event: Event[str], ctx: Context[Tally]) -> str:
        ctx.state.count += 1
        self.harness._engine.now += 100
        return event.data


@pytest.mark.parametrize("fuse", [None, "all"])
def test_A20_a_timeout_while_process_runs_loses_nothing_of_the_event(fuse: Fuse) -> None:
    workflow = Workflow("lone", keyed=False, fuse=fuse)
    lines = workflow.source(ChannelSource(str, capacity=3, name="lines"))
    said = workflow.sink(KafkaSink("said", str))
    node = workflow.node(Slow(), name="slow")
    lines.to(node)
    node.to(said)
    workflow.timeout(total=timedelta(milliseconds=50))
    with Harness(workflow) as harness:
        Slow.harness = harness
        harness.advance(timedelta(milliseconds=10))
        harness.send(lines, "one")

        assert harness.sent(said) == ["one"]
        assert harness.runs[""].state(node) == Tally(1)
        assert harness.runs[""].status == "timed out"


def test_time_is_the_stores_and_the_same_for_the_event(fuse: Fuse) -> None:
    workflow, readings, said, (timeouts, quiet) = timed(fuse, idle=10 * SECOND)
    timeouts["idle"].to(quiet)
    start = datetime(2026, 3, 29, 0, 59, 55, tzinfo=UTC)
    with Harness(workflow, start=start) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(10 * SECOND)
        [message] = harness.messages(said)

        assert message.time == start + 10 * SECOND
        assert message.id == f"timers/idle/a/1/{int(message.time.timestamp() * 1000)}.0"


def test_a_time_out_that_stood_still_is_void_once_its_run_has_ended() -> None:
    """It has not begun, so it does not end with the run; found as the partition asked for it without end."""

    def finish(event: Event[str], ctx: Context) -> Complete:
        if ctx.attempt == 1:
            raise OSError("not yet")
        return Complete("done")

    def pass_on(event: Event[Timeout], ctx: Context) -> Timeout:
        return event.data

    workflow = Workflow("late", partitions=1)
    words = workflow.source(KafkaSource("words", str))
    late = workflow.sink(KafkaSink("late", Timeout))
    told = workflow.node(pass_on)
    words.to(workflow.node(finish, retry=Retry(2, backoff=Linear(timedelta(seconds=10)), jitter=0)))
    workflow.timeout(idle=timedelta(seconds=5)).to(told)
    told.to(late)
    with Harness(workflow) as harness:
        harness.send(words, "a", key="k")
        harness.advance(timedelta(seconds=7))
        assert len(harness.parked) == 2

        harness.advance(timedelta(seconds=7))

        assert harness.runs["k"].status == "completed"
        assert (list(harness.parked), harness.sent(late)) == ([], [])


class Stubborn(Node[Reading, None, str]):
    def process(self, event: Event[Reading], ctx: Context) -> str:
        if ctx.attempt < 3:
            raise OSError("not now")
        return "done"


@pytest.mark.parametrize("route", [Complete, Terminate, None])
def test_a_total_time_ends_a_run_that_stands_still(fuse: Fuse, route: Any) -> None:
    workflow = Workflow("stubborn", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    said = workflow.sink(KafkaSink("said", str))
    node = workflow.node(Stubborn(), retry=Retry(5, backoff=Linear(20 * SECOND), jitter=0))
    readings.to(node)
    node.to(said)
    timeout = workflow.timeout(total=30 * SECOND)
    if route is not None:
        timeout.to(route)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("a", 1))
        harness.advance(29 * SECOND)
        assert harness.runs["a"].status == "running"
        harness.advance(SECOND)
        status = harness.runs["a"].status
        harness.advance(200 * SECOND)

        assert status == {Complete: "completed", Terminate: "terminated", None: "timed out"}[route]
        assert index_of(harness) == {}
        assert (harness.sent(said), harness.dead_letters) == ([], [])
        assert harness.runs["a"].status == status
        assert harness.parked == []


def test_an_end_by_a_source_stays_behind_what_came_before_it(fuse: Fuse) -> None:
    workflow = Workflow("stop", fuse=fuse)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    stops = workflow.source(KafkaSource("stops", Reading, key="sensor"))
    node = workflow.node(counting)
    readings.to(node)
    stops.to(Complete)
    with Harness(workflow, partitions=1) as harness:
        with harness.batch():
            harness.send(readings, Reading("a", 1))
            harness.send(stops, Reading("a", 2))

        assert harness.runs["a"].status == "completed"
        assert harness.runs["a"].state(node) == Tally(1)


def test_a_timer_is_not_forgotten_that_the_store_has_only_after_it_was_asked_what_is_due() -> None:
    """A commit may be under way while the store is asked, and come after."""
    plan = watched()[0].compile()
    world = MemoryStore()
    core = PartitionCore(plan, 0, 1, world.acquire(0, term=1, placement=1, worker="w"))
    runners = [UnitRunner(plan, unit.index) for unit in plan.units]
    core.offer([Records(0, "readings/0", [0], [0], [None], [msgspec.json.encode(Reading("a", 1))], "1")], 0)
    saves: list[Save] = []
    while todo := core.instructions():
        for instruction in todo:
            if isinstance(instruction, Load):
                core.loaded(instruction.keys, world.load(0, instruction.keys), 0)
            elif isinstance(instruction, Dispatch):
                core.finished(runners[instruction.call.unit].run(instruction.call), 0)
            elif isinstance(instruction, Save):
                saves.append(instruction)
    [save] = saves
    due = core.timers_at
    assert due is not None

    core.ring(due)
    core.rang(*world.timers(0, due, 10), due)
    assert core.committed(world.commit(0, core.owner, save.commit), due)

    assert core.timers_at == due
