"""Sources that a person has paused: what the supervisor tells whom, and what a worker then pulls."""

from __future__ import annotations

from typing import cast

from headrace import ChannelSource, Context, Event, Workflow
from headrace.actors.feeds import Feeds
from headrace.actors.pauses import ALL
from headrace.actors.pausing import Pausing
from headrace.actors.spec import Pause, Problem
from headrace.sources.reader import Reader
from headrace.workflows.plan import SourcePlan
from shell_world import ShellWorld, deployment

EVERYTHING = (Pause(source=ALL, since=1.0, by="ada@office"),)


class PretendedReader:
    """Only remembers what is paused."""

    paused: frozenset[int] = frozenset()


def upper(event: Event[str], ctx: Context) -> None:
    del event, ctx


def sources() -> tuple[SourcePlan, ...]:
    workflow = Workflow("two", partitions=2)
    node = workflow.node(upper)
    for name in ("left", "right"):
        workflow.source(ChannelSource(str, capacity=10, key=lambda text: text, name=name)).to(node)
    return workflow.compile().sources


def pausing() -> tuple[Pausing, PretendedReader, list[tuple[int, int]]]:
    reader, closed = PretendedReader(), list[tuple[int, int]]()
    feeds = Feeds([], [cast("Reader", reader)])
    made = Pausing(sources(), feeds, lambda partition, source: closed.append((partition, source)), lambda: None)
    return made, reader, closed


def test_workers_that_run_are_told_and_all_is_at_rest_once_they_have_finished() -> None:
    world = ShellWorld(deployment())
    world.settle()
    worker = world.holder("worker/1")
    worker.in_flight = 3

    world.roster.pauses = EVERYTHING
    status = world.settle(3)
    assert (status.state, status.at_rest, status.paused) == ("paused", False, EVERYTHING)
    assert worker.paused == (ALL,)

    worker.in_flight = 0
    assert world.settle(3).at_rest
    assert status.ready, "its processes serve as before"


def test_a_worker_that_starts_while_it_is_paused_never_pulls() -> None:
    world = ShellWorld(deployment())
    world.settle()
    world.roster.pauses = EVERYTHING
    world.settle(3)

    world.kill(world.holder("worker/0").actor)
    world.settle()

    assert world.holder("worker/0").paused == (ALL,)
    assert world.status().at_rest


def test_a_worker_whose_answer_was_no_is_told_again() -> None:
    world = ShellWorld(deployment())
    world.settle()
    worker = world.holder("worker/0")
    worker.suspended = True
    world.roster.pauses = EVERYTHING
    world.step()
    message = next(iter(process for process in world.roster.processes.values() if process.actor == worker.actor))
    assert message.paused_sent == (ALL,)

    worker.suspended = False
    world.refuse_hold(worker.actor, Problem(where="worker/0", word="control", sentence="no answer"))
    world.settle(3)

    assert worker.paused == (ALL,)


def test_a_pause_of_one_source_leaves_the_workflow_running() -> None:
    world = ShellWorld(deployment())
    world.settle()
    world.holder("worker/0").in_flight = 5

    world.roster.pauses = (Pause(source="left", since=1.0),)
    status = world.settle(3)

    assert (status.state, status.at_rest) == ("running", True)


def test_readers_hold_the_sources_that_are_named_and_all_of_them_without_a_name() -> None:
    made, reader, _ = pausing()

    made.pause(["right", "one of another version"])
    assert reader.paused == {1}
    made.pause([ALL])
    assert reader.paused == {0, 1}
    made.pause([])
    assert reader.paused == frozenset()


def test_that_a_source_has_ended_is_told_once_it_goes_on() -> None:
    made, _, closed = pausing()
    made.pause(["left"])

    made.closed(0, 0)
    made.closed(0, 1)
    assert closed == [(0, 1)]

    made.pause([])
    assert closed == [(0, 1), (0, 0)]
    made.pause([])
    assert len(closed) == 2
