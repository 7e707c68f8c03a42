"""Suspects: what a process that died was at, which of its events go alone, and when it is enough."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from deaths import KEYS, VERSION, WORDS, Died, Words, call_of, run, unit_of
from headrace import Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.actors.host_progress import HostProgress
from headrace.actors.overtime import EXIT_CODE, Overtime
from headrace.actors.progress_files import Slot, take_over
from headrace.testing import Harness
from headrace.workflows.calls import Call, CallResult
from headrace.workflows.runner import UnitRunner
from headrace.workflows.suspicion import DEATHS, Place, PoisonEvent, Where, verdict


class Lives:
    """One role on one machine, process after process."""

    def __init__(self, folder: Path, workflow: Workflow) -> None:
        self.folder = folder
        self.version = VERSION
        self.incarnation = 0
        self.plan = workflow.compile()

    def next(self) -> UnitRunner:
        self.incarnation += 1
        progress = HostProgress(self.folder, "node/0/0", self.incarnation, self.version)
        return UnitRunner(self.plan, 0, progress=progress)

    def until_answered(self, call: Call) -> tuple[CallResult, int]:
        """Send a call to one process after the other until one survives it; its result, and how many did not."""
        for deaths in range(20):
            try:
                return run(self.next(), call), deaths
            except Died:
                continue
        raise AssertionError("no process survives it")


@pytest.fixture(params=["waves", "async", "batch"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_G10_an_event_that_ends_its_process_each_time_is_given_up_and_no_other_is(tmp_path: Path, kind: str) -> None:
    words = Words()

    result, deaths = Lives(tmp_path, unit_of(words, kind)).until_answered(call_of())

    (failed,) = result.failed
    assert (failed.index, failed.node, failed.reason) == (3, 0, "poison")
    assert failed.error.startswith(f"ended its process {DEATHS} times")
    assert deaths == DEATHS
    assert result.states == [[b'["one","two"]'], [b'["one"]'], [b'["one","two"]']]
    assert all(len(batch) == 1 for batch in words.had[2:]), "what is suspected goes alone"


def test_an_event_that_was_there_by_chance_goes_through(tmp_path: Path, kind: str) -> None:
    words = Words()
    lives = Lives(tmp_path, unit_of(words, kind))
    with pytest.raises(Died):
        run(lives.next(), call_of())
    words.deadly = None

    result, deaths = lives.until_answered(call_of())

    assert (result.failed, deaths) == ([], 0)
    assert list((tmp_path / "suspects").iterdir()) == [], "it is suspected no more"


def test_the_next_owner_knows_the_event_in_another_call(tmp_path: Path, kind: str) -> None:
    lives = Lives(tmp_path, unit_of(Words(), kind))
    for number in range(1, DEATHS + 1):
        with pytest.raises(Died):
            run(lives.next(), call_of(number, owner=f"owner-{number}", words=WORDS[:4]))

    result, deaths = lives.until_answered(call_of(9, "another", words=WORDS))

    assert ([row.index for row in result.failed], deaths) == ([3], 0)


def test_what_failed_fails_again_for_who_repeats_the_call_and_is_tried_when_it_is_sent_back(tmp_path: Path) -> None:
    words = Words()
    lives = Lives(tmp_path, unit_of(words, "waves"))
    lives.until_answered(call_of())

    for repeated in (call_of(), call_of(1, "the next owner")):
        result, deaths = lives.until_answered(repeated)
        assert ([row.reason for row in result.failed], deaths) == (["poison"], 0)

    words.deadly = None
    result, _ = lives.until_answered(call_of(2, "the next owner"))
    assert result.failed == []


def test_events_go_on_where_the_files_are_gone_or_have_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    words.deadly = None
    runner = Lives(tmp_path, unit_of(words, "waves")).next()
    shutil.rmtree(tmp_path)
    assert len(run(runner, call_of(1)).states) == len(KEYS)

    def full(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room"):
        Lives(tmp_path, unit_of(words, "waves")).next()

    monkeypatch.undo()
    runner = Lives(tmp_path, unit_of(words, "waves")).next()
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert len(run(runner, call_of(1)).states) == len(KEYS)


def test_another_version_of_the_code_has_killed_nobody(tmp_path: Path) -> None:
    words = Words()
    lives = Lives(tmp_path, unit_of(words, "waves"))
    for _ in range(DEATHS):
        with pytest.raises(Died):
            run(lives.next(), call_of())
    words.deadly, lives.version = None, "v2"

    result, _ = lives.until_answered(call_of())

    assert result.failed == []


def test_a_process_that_ended_between_calls_or_as_it_should_blames_nobody(tmp_path: Path) -> None:
    words = Words()
    words.deadly = None
    lives = Lives(tmp_path, unit_of(words, "waves"))
    run(lives.next(), call_of())

    assert take_over(tmp_path / "processes", "node/0/0", 99) == []
    assert list((tmp_path / "processes").iterdir()) == []


@contextmanager
def holding(folder: Path, limit: int) -> Iterator[subprocess.Popen[str]]:
    """A process with the role `worker/0` that has an event."""
    program = (
        "import sys; from pathlib import Path; from headrace.actors.progress_files import ProcessFiles, Where\n"
        "files = ProcessFiles(Path(sys.argv[1]), 'worker/0', 1)\n"
        "files.timed.enter(Where(0, 'words/0@t/7', 'k'), int(sys.argv[2]))\n"
        "print('there', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(folder), str(limit)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_files_of_other_roles_are_taken_only_when_their_process_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "processes"
    with holding(folder, limit=10**18) as process:
        assert take_over(folder, "worker/1", 2) == [], "it lives"

        process.kill()
        process.wait()
        (death,) = take_over(folder, "worker/1", 2)

    assert death.where == Where(0, "words/0@t/7", "k")
    assert death.overtime == 0.0


def test_a_hung_process_is_replaced_by_the_next_of_its_role(tmp_path: Path) -> None:
    with holding(tmp_path, limit=1):
        (death,) = take_over(tmp_path, "worker/0", 2)

    assert death.overtime == pytest.approx(1e-9), "it is there for longer than it may"


@pytest.mark.parametrize("kind", ["waves", "batch"])
def test_F07_an_event_that_was_there_too_long_fails_when_its_process_is_replaced(tmp_path: Path, kind: str) -> None:
    words = Words()
    workflow = unit_of(words, kind, timedelta(milliseconds=20))
    ended: list[int] = []

    class Slow(Lives):
        def next(self) -> UnitRunner:
            self.incarnation += 1
            progress = HostProgress(self.folder, "node/0/0", self.incarnation, self.version, end=ended.append)
            self.progress = progress
            return UnitRunner(self.plan, 0, progress=progress)

    lives = Slow(tmp_path, workflow)
    take = words.take

    def hang(events: Sequence[Event[str]]) -> list[str]:
        if any((event.key, event.data) == words.deadly for event in events):
            while not ended:
                time.sleep(lives.progress._overtime.look())
            ended.clear()
            lives.progress._files.timed.leave = lambda: None  # type: ignore[method-assign]  # a process that ends does nothing more
            raise Died
        return take(events)

    words.take = hang  # type: ignore[method-assign]
    result, deaths = lives.until_answered(call_of())

    (failed,) = result.failed
    assert (failed.index, failed.reason) == (3, "timeout")
    assert failed.error == "not done after 0.02 s (timeout=), and its process was replaced"
    assert deaths == (1 if kind == "waves" else 2), "a batch that took too long goes singly first"


def test_the_watchdog_ends_the_process_for_the_event_that_it_saw(tmp_path: Path) -> None:
    slot, ended = Slot(tmp_path / "slot"), []
    with (tmp_path / "trace").open("wb") as trace:
        overtime = Overtime(slot, trace, end=ended.append)
        overtime.limit(0.01)
        overtime.look()
        slot.enter(Where(0, "root", "key"), 10_000_000_000)
        overtime.look()
        assert ended == [], "there is time left"

        slot.enter(Where(0, "root", "key"), 1)
        overtime.look()

    assert ended == [EXIT_CODE]
    assert slot.condemned(alive=False, trace="")
    assert (tmp_path / "trace").stat().st_size > 0, "where the process stood"


@pytest.mark.parametrize(
    ("place", "others", "reason"),
    [
        (Place(deaths=1), 0, None),
        (Place(deaths=1), 1, None),
        (Place(deaths=DEATHS), 0, "poison"),
        (Place(deaths=DEATHS - 1), 1, "poison"),
        (Place(deaths=1, overtime=0.5), 0, "timeout"),
    ],
)
def test_when_it_is_enough(place: Place, others: int, reason: str | None) -> None:
    error = verdict(place, others)

    assert (error and error.reason_code) == reason


def test_a_dead_letter_says_what_the_process_said_last() -> None:
    trace = (
        "Fatal Python error: Segmentation fault\n\n"
        'Thread 0x1 (most recent call first):\n  File "wait.py", line 1 in wait\n\n'
        'Current thread 0x2 (most recent call first):\n  File "flow.py", line 7 in parse\n  File "b.py", line 1 in b\n'
    )

    said = str(PoisonEvent(3, trace))

    assert said.startswith("ended its process 3 times, the last time: Fatal Python error: Segmentation fault")
    assert said.endswith('File "flow.py", line 7 in parse')
    assert "SIGKILL" in str(PoisonEvent(3))


def test_in_the_harness_a_node_that_comes_back_too_late_fails(tmp_path: Path) -> None:
    def nap(event: Event[str], ctx: Context[list[str]]) -> str:
        ctx.state.append(event.data)
        if event.data == "late":
            time.sleep(0.03)
        return event.data

    workflow = Workflow("naps")
    source, sink = workflow.source(KafkaSource("words", str)), workflow.sink(KafkaSink("said", str))
    node = workflow.node(nap, timeout=timedelta(milliseconds=20))
    source.to(node)
    node.to(sink)
    with Harness(workflow) as harness:
        for word in ("one", "late", "two"):
            harness.send(source, word, key="a")

        (letter,) = harness.dead_letters
        assert (letter.reason, letter.node) == ("timeout", "nap")
        assert harness.runs["a"].state(node) == ["one", "two"]
        assert harness.sent(sink) == ["one", "two"]


class Patient:
    """Words that take long: their calls are not waited for."""

    def __init__(self, *long: str) -> None:
        self.long = set(long)
        self.had: list[str] = []

    def workflow(self) -> Workflow:
        async def read(event: Event[str], ctx: Context[list[str]]) -> str:
            name = f"{event.key}/{event.data}"
            self.had.append(name)
            ctx.state.append(event.data)
            if name in self.long:
                await asyncio.Event().wait()
            return event.data

        workflow = Workflow("words")
        source, sink = workflow.source(KafkaSource("words", str)), workflow.sink(KafkaSink("said", str))
        reads = workflow.node(read, name="read")
        source.to(reads)
        reads.to(sink)
        return workflow


def live(lives: Lives, number: int) -> list[tuple[int, str]]:
    """One process has the call, and ends when that has been answered. Returns what did not go through."""
    runner = lives.next()
    runner._slow.deadline = 0.05
    return [(row.index, row.reason) for row in run(runner, call_of(number)).failed]


def test_G10_an_event_that_ends_its_process_after_its_call_is_given_up_and_no_other_is(tmp_path: Path) -> None:
    words = Patient("a/one", "b/two")  # the second one is deadly: each process ends while it goes on
    lives = Lives(tmp_path, words.workflow())

    assert live(lives, 1) == [(0, "slow"), (1, "behind"), (3, "slow")]
    words.had.clear()
    assert live(lives, 2) == [(0, "slow"), (1, "behind"), (3, "slow")]
    assert "b/two" not in words.had, "of two suspects nobody would know which one it was"
    words.long.remove("a/one")
    assert live(lives, 3) == [(3, "slow")]
    assert live(lives, 4) == [(3, "slow")]
    words.had.clear()

    assert live(lives, 5) == [(3, "poison")]
    assert "b/two" not in words.had


def test_a_process_that_ended_once_what_it_went_on_with_was_done_blames_nobody(tmp_path: Path) -> None:
    words = Patient("a/one")
    lives = Lives(tmp_path, words.workflow())
    runner = lives.next()
    runner._slow.deadline = 0.05

    async def ask_twice() -> CallResult:
        await runner.run_async(call_of(1))
        [going] = runner._slow._going.values()
        going.task.cancel()
        words.long.clear()
        return await runner.run_async(call_of(3, "another", words=WORDS))

    assert asyncio.run(ask_twice()).failed == []
    assert take_over(tmp_path / "processes", "node/0/0", 99) == []
