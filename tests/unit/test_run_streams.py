"""Streams of runs: written at once, sealed by the commit; what an attempt that failed has written is taken back."""

import asyncio
import random
import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from headrace import BatchNode, Complete, Context, Event, KafkaSource, Linear, Node, Retry, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.run_streams import RunStreams, Streamed, values_of
from headrace.workflows.streaming import EVENT_CAP, KEPT, VALUE_CAP, StreamError, StreamLost, StreamPlace

Fuse = Literal["all"] | None
PROGRAMS = Path(__file__).parents[1] / "typing" / "programs"
SECOND = timedelta(seconds=1)


class Say(msgspec.Struct, frozen=True):
    key: str
    words: list[Any]
    then: str = ""


class Told(msgspec.Struct):
    turns: int = 0


async def say(event: Event[Say], ctx: Context) -> Say | Complete:
    data = event.data
    async with ctx.stream("tokens") as tokens:
        for word in data.words:
            await tokens.write(word)
            await asyncio.sleep(0)
        if "two" in data.then:
            async with ctx.stream("log") as log:
                await log.write(len(data.words))
                await tokens.write("and")
                await log.write("done")
        if "again" in data.then and ctx.attempt < 3:
            await tokens.write(f"attempt {ctx.attempt}")
            raise OSError("not now")
        if "fail" in data.then:
            raise ValueError("no")
    if "late" in data.then:
        await tokens.write("late")
    if "reopen" in data.then:
        async with ctx.stream("tokens") as tokens:
            await tokens.write("reopened")
    return Complete("done") if "complete" in data.then else data


def saying(fuse: Fuse = None, state: Any = None) -> Any:
    workflow = Workflow("talk", fuse=fuse, state=state)
    said = workflow.source(KafkaSource("said", Say, key="key"))
    node = workflow.node(say, retry=Retry(3, on=(OSError,), backoff=Linear(SECOND, timedelta(0)), jitter=0.0))
    said.to(node)
    node.to(None)
    return workflow, said


@pytest.fixture(params=[None, "all"], ids=["nodes", "fused"])
def fuse(request: pytest.FixtureRequest) -> Fuse:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[None, Told], ids=["plain", "shared"])
def state(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_S01_mixed_values_are_the_same_for_every_reader(fuse: Fuse, state: Any) -> None:
    workflow, said = saying(fuse, state)
    words = [1, "two", None, {"three": [3]}, [], True, 0.5]
    with Harness(workflow) as harness:
        harness.send(said, Say("a", words))

        assert [harness.runs["a"].streams["tokens"] for _ in range(2)] == [words, words]


def test_S02_a_reader_goes_on_after_any_entry(fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["x", "y", "z"]))
        run = harness.runs["a"]
        ids = [entry.id for entry in run.entries("tokens")]

        assert [len(run.entries("tokens", after=id)) for id in ["0", *ids]] == [3, 2, 1, 0]
        assert run.entries("nothing") == []


def test_S03_followers_end_with_the_run(fuse: Fuse, state: Any) -> None:
    workflow, said = saying(fuse, state)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["x"], then="complete"))

        *_, last = harness.runs["a"].entries("tokens")
        assert (last.kind, last.value) == ("end", b"completed")
        assert harness.runs["a"].streams == {"tokens": ["x"]}


def test_S06_two_streams_are_independent_each_in_order(fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send_all(said, [Say("a", ["x", "y"], then="two"), Say("b", [], then="two")])

        assert harness.runs["a"].streams == {"tokens": ["x", "y", "and"], "log": [2, "done"]}
        assert harness.runs["b"].streams == {"tokens": ["and"], "log": [0, "done"]}


def test_S08_a_value_that_looks_like_a_marker_is_data(fuse: Fuse) -> None:
    markers = ["end", "reset", "r", "e", {"kind": "end"}, {"r": "0-0"}, "0-0", {"end": True}]
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", markers))

        assert harness.runs["a"].streams["tokens"] == markers


@pytest.mark.parametrize(("then", "words"), [("late", "is closed"), ("reopen", "and closed it")])
def test_S09_nobody_sees_a_value_past_the_end_and_the_next_event_writes_on(then: str, words: str, fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["first"]))
        harness.send(said, Say("a", ["bad"], then=then))
        harness.send(said, Say("a", ["next"]))

        (letter,) = harness.dead_letters
        assert letter.reason == "stream"
        assert words in letter.error
        assert harness.runs["a"].streams["tokens"] == ["first", "next"]


def test_S12_readers_of_a_node_that_was_retried_end_with_the_values_of_the_attempt_that_succeeded(
    fuse: Fuse, state: Any
) -> None:
    workflow, said = saying(fuse, state)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["before"]))
        harness.send(said, Say("a", ["one", "two", "three"], then="again"))
        assert harness.runs["a"].streams["tokens"] == ["before"]

        seen = [entry.kind for entry in harness.runs["a"].entries("tokens")]
        harness.advance(2 * SECOND)

        assert seen == ["value", "reset"]
        assert harness.runs["a"].streams["tokens"] == ["before", "one", "two", "three"]


def test_what_an_event_has_written_that_fails_for_good_is_taken_back(fuse: Fuse, state: Any) -> None:
    workflow, said = saying(fuse, state)
    with Harness(workflow) as harness:
        harness.send_all(said, [Say("a", ["x"]), Say("a", ["bad"], then="fail"), Say("a", ["y"])])

        assert harness.runs["a"].streams["tokens"] == ["x", "y"]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_dies_anywhere_leaves_each_value_once(point: str, fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.crash_at(point)
        for number in range(3):
            harness.send(said, Say("a", [f"{number}a", f"{number}b"], then="again" if number == 1 else ""))
        harness.advance(10 * SECOND)

        tokens = harness.runs["a"].streams["tokens"]
        assert sorted(tokens) == ["0a", "0b", "1a", "1b", "2a", "2b"]
        assert all(tokens.index(f"{n}a") + 1 == tokens.index(f"{n}b") for n in range(3))


def test_a_key_that_is_used_again_begins_without_streams(fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["x"], then="complete"))
        last = harness.runs["a"].entries("tokens")[-1].id
        harness.send(said, Say("a", ["y"]))

        assert harness.runs["a"].streams == {"tokens": ["y"]}
        kinds = [(entry.kind, entry.value) for entry in harness.runs["a"].entries("tokens", after=last)]
        assert kinds == [("reset", b"0-0"), ("value", b'"y"')]


def test_streams_are_kept_as_long_as_their_run_and_erased_with_it(fuse: Fuse) -> None:
    workflow, said = saying(fuse)
    with Harness(workflow) as harness:
        harness.send(said, Say("a", ["x"]))
        harness.send(said, Say("b", ["x"], then="complete"))
        harness.runs["a"].delete()
        streams = [harness._engine.store.streams(number) for number in range(harness._partitions)]
        assert [names for store in streams if (names := store.names("a") + store.names("b"))] == [["tokens"]]

        harness.advance(timedelta(hours=25))

        assert [store.names("b") for store in streams] == [[]] * len(streams)


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["x" * VALUE_CAP], "over the cap of 65536"), ([0] * (EVENT_CAP + 1), "over the cap of 5000")],
)
def test_what_is_over_a_limit_is_an_error_of_its_event(words: list[Any], problem: str) -> None:
    workflow, said = saying()
    with Harness(workflow) as harness:
        harness.send(said, Say("a", words))

        (letter,) = harness.dead_letters
        assert problem in letter.error
        assert harness.runs["a"].streams.get("tokens", []) == []


@pytest.mark.parametrize("name", ["", "a:b", "n" * 201])
def test_a_name_that_can_not_be_is_refused(name: str) -> None:
    async def opens(event: Event[str], ctx: Context) -> None:
        with pytest.raises(StreamError, match="can't be the name"):
            ctx.stream(name)
        ctx.set_value("refused", True)

    workflow = Workflow("talk")
    said = workflow.source(KafkaSource("said", str))
    said.to(workflow.node(opens))
    with Harness(workflow) as harness:
        harness.send(said, "x", key="a")
        assert harness.runs["a"].values == {"refused": True}


def test_nodes_that_can_not_write_are_told_so() -> None:
    def plain(event: Event[str], ctx: Context) -> None:
        ctx.stream("tokens")

    class Batch(BatchNode[str]):
        async def process(self, events: Any, ctxs: Any) -> list[None]:
            async with ctxs[0].stream("tokens"):
                return [None for _ in events]

    for node in (plain, Batch()):
        workflow = Workflow("talk")
        said = workflow.source(KafkaSource("said", str))
        said.to(workflow.node(node))
        with Harness(workflow) as harness:
            harness.send(said, "x", key="a")
            (letter,) = harness.dead_letters
            assert "can't write streams" in letter.error


def test_a_node_object_writes_streams_and_keeps_its_state(fuse: Fuse) -> None:
    class Counts(Node[Say, Told]):
        async def process(self, event: Event[Say], ctx: Context[Told]) -> None:
            ctx.state.turns += 1
            async with ctx.stream("turns") as turns:
                await turns.write(ctx.state.turns)

    workflow = Workflow("talk", fuse=fuse)
    said = workflow.source(KafkaSource("said", Say, key="key"))
    said.to(workflow.node(Counts()))
    with Harness(workflow) as harness:
        harness.send_all(said, [Say("a", []), Say("b", []), Say("a", [])])

        assert (harness.runs["a"].streams, harness.runs["b"].streams) == ({"turns": [1, 2]}, {"turns": [1]})


def place(event: str, *, node: str = "n", stream: str = "s", number: int = 1) -> StreamPlace:
    return StreamPlace("a", number, stream, node, event)


class Follower:
    """Reads a stream as it grows, as a reader does that never looks back."""

    def __init__(self, streams: RunStreams) -> None:
        self._streams = streams
        self._seen: list[Streamed] = []

    def look(self) -> None:
        last = self._seen[-1].id if self._seen else "0"
        self._seen += self._streams.read("a", "s", last, KEPT)

    @property
    def values(self) -> list[bytes]:
        return values_of(self._seen)


@pytest.mark.parametrize("seed", range(200))
def test_S12_whoever_follows_however_often_has_what_there_is(seed: int) -> None:  # noqa: PLR0912
    draw = random.Random(seed)
    streams, followers = RunStreams(), []
    written: dict[str, list[bytes]] = {}
    tokens: dict[str, int] = {}
    sealed: set[str] = set()
    followers = [Follower(streams) for _ in range(3)]
    for step in range(60):
        event = f"e{draw.randrange(4)}-{step // 20}"
        roll = draw.random()
        if event in sealed:
            continue
        if roll < 0.7:
            value = b"%d" % step
            if draw.random() < 0.15:
                tokens[event] = tokens.get(event, 0) + 1
                written[event] = []
            count = len(written.setdefault(event, [])) + 1
            for _ in range(draw.choice([1, 1, 2])):  # the answer was lost: again
                streams.append(place(event), str(tokens.get(event, 0)), count, value)
            written[event].append(value)
        elif roll < 0.8:
            streams.seal(place(event))
            sealed.add(event)
        elif roll < 0.9:
            streams.cut(place(event))
            written[event] = []
            tokens[event] = tokens.get(event, 0) + 1
        for follower in followers:
            if draw.random() < 0.4:
                follower.look()
        if draw.random() < 0.05:
            followers.append(Follower(streams))
    if draw.random() < 0.5:
        streams.end("a", 1, "completed", None)
        written = {event: values for event, values in written.items() if event in sealed}

    for follower in followers:
        follower.look()
        assert sorted(follower.values) == sorted(value for values in written.values() for value in values)
        for values in written.values():
            assert [value for value in follower.values if value in values] == values


def test_nothing_is_written_for_a_run_that_has_ended_or_for_an_earlier_one() -> None:
    streams = RunStreams()
    streams.append(place("e1", number=2), "t", 1, b"1")
    with pytest.raises(StreamLost):
        streams.append(place("e0", number=1), "t", 1, b"0")
    streams.end("a", 2, "completed", None)
    with pytest.raises(StreamLost):
        streams.append(place("e2", number=2), "t", 1, b"2")

    streams.append(place("e3", number=3), "t", 1, b"3")

    assert values_of(streams.read("a", "s", "0", 10)) == [b"3"]


def test_the_chat_of_the_programs_streams_its_answer_and_ends_when_nobody_says_anything() -> None:
    chat: Any = runpy.run_path(str(PROGRAMS / "chat.py"))
    with Harness(chat["workflow"]) as harness:
        answers = [harness.request(chat["said"], chat["Said"]("ada", text)) for text in ("hi", "there")]

        assert answers == ["hello", "hello"]
        assert harness.runs["ada"].streams == {"tokens": ["hello", "hello"]}
        harness.advance(timedelta(minutes=16))
        assert (harness.runs["ada"].status, harness.runs["ada"].result) == ("completed", {"turns": 4})
        assert harness.runs["ada"].entries("tokens")[-1].kind == "end"
