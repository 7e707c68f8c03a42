"""The test kit itself: what it shows of a workflow, how it crashes and goes on, what it says when asked wrongly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from headrace import (
    ChannelSource,
    CodecError,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    Node,
    Reject,
    RequestSource,
    SourceClosed,
    Workflow,
)
from headrace.testing import Harness, HarnessError
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle
from headrace.workflows.store import StoreFull

HEAVY = ["ray", "aiokafka", "redis", "fastapi"]


class Word(msgspec.Struct, frozen=True):
    author: str
    text: str


class Tally(msgspec.Struct):
    count: int = 0
    last: str = ""


class Count(Node[Word, Tally, Word]):
    def process(self, event: Event[Word], ctx: Context[Tally]) -> Word:
        ctx.state.count += 1
        ctx.state.last = event.data.text
        if event.data.text == "bad":
            raise ValueError("a bad word")
        return event.data


class Shout(Node[Word, None, Word]):
    """Needs what `open` makes, waits for something, and says at which time."""

    def __init__(self) -> None:
        self.mark = ""

    async def open(self) -> None:
        await asyncio.sleep(0)
        self.mark = "!"

    async def process(self, event: Event[Word], ctx: Context) -> Word:
        await asyncio.sleep(0)
        return Word(event.data.author, f"{event.data.text.upper()}{self.mark} {ctx.now:%H:%M}")


@dataclass
class Words:
    workflow: Workflow
    words: SourceHandle[Word]
    count: NodeHandle[Any, Any]
    shout: NodeHandle[Any, Any]
    shouts: SinkHandle[Word]


def words() -> Words:
    workflow = Workflow("words", partitions=2)
    source = workflow.source(KafkaSource("words", Word, key="author"))
    count, shout = workflow.node(Count()), workflow.node(Shout())
    shouts = workflow.sink(KafkaSink("shouts", Word))
    source.to(count)
    count.to(shout)
    shout.to(shouts)
    return Words(workflow, source, count, shout, shouts)


@pytest.fixture
def flow() -> Words:
    return words()


@pytest.fixture
def harness(flow: Words) -> Iterator[Harness]:
    with Harness(flow.workflow) as harness:
        yield harness


def test_states_messages_and_dead_letters_can_be_looked_at(flow: Words, harness: Harness) -> None:
    harness.send(flow.words, Word("ada", "tea"), headers={"trace": "1"})
    harness.send(flow.words, Word("ada", "bad"))
    harness.send(flow.words, Word("bob", "milk"))

    assert harness.sent(flow.shouts) == [Word("ada", "TEA! 00:00"), Word("bob", "MILK! 00:00")]
    assert harness.messages(flow.shouts)[0].key == "ada"
    assert harness.runs["ada"].state(flow.count) == Tally(1, "tea")
    assert (harness.runs["ada"].status, harness.runs["ada"].result, harness.runs["ada"].number) == ("running", None, 1)
    assert set(harness.runs) == {"ada", "bob"}
    [letter] = harness.dead_letters
    assert (letter.reason, letter.node, letter.error) == ("error", "count", "ValueError: a bad word")


def test_time_is_virtual(flow: Words) -> None:
    with Harness(flow.workflow, start=datetime(2030, 5, 1, 12, tzinfo=UTC)) as harness:
        harness.advance(timedelta(minutes=5))
        harness.send(flow.words, Word("ada", "tea"))

        assert harness.now == datetime(2030, 5, 1, 12, 5, tzinfo=UTC)
        assert harness.sent(flow.shouts) == [Word("ada", "TEA! 12:05")]
        assert harness.messages(flow.shouts)[0].time == harness.now


async def test_it_works_while_an_event_loop_is_running(flow: Words, harness: Harness) -> None:
    harness.send(flow.words, Word("ada", "tea"))

    assert harness.sent(flow.shouts) == [Word("ada", "TEA! 00:00")]


def test_what_is_sent_in_a_batch_waits_for_its_end(flow: Words, harness: Harness) -> None:
    with harness.batch():
        harness.send(flow.words, Word("ada", "tea"))
        harness.send(flow.words, Word("ada", "milk"))
        assert harness.sent(flow.shouts) == []
        assert harness.remainder(flow.words) == [Word("ada", "tea"), Word("ada", "milk")]

    assert len(harness.sent(flow.shouts)) == 2
    assert harness.remainder(flow.words) == []


@pytest.mark.parametrize("fuse", [None, "all"])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_point_changes_nothing_but_repeats_of_messages(point: str, fuse: Any) -> None:
    said = [Word(author, text) for text in ("tea", "bad", "milk") for author in ("ada", "bob", "cy")]

    def run(crash_at: str | None) -> tuple[Harness, Words]:
        flow = words()
        with Harness(flow.workflow, fuse=fuse) as harness:
            if crash_at is not None and "acquire" in crash_at:
                harness.crash_at(crash_at)  # which happens at the first event only
            harness.send(flow.words, said[0])
            if crash_at is not None and "acquire" not in crash_at:
                harness.crash_at(crash_at)
            with harness.batch():
                for word in said[1:]:
                    harness.send(flow.words, word, partition=0)  # wherever their keys belong
            harness.send(flow.words, Word("ada", "last"))
        return harness, flow

    def by_author(sent: list[Word]) -> dict[str, list[str]]:
        return {author: [word.text for word in sent if word.author == author] for author in ("ada", "bob", "cy")}

    expected, whole = run(None)
    found, flow = run(point)

    assert (expected.crashes, found.crashes) == (0, 1)
    assert by_author(found.sent(flow.shouts, unique=True)) == by_author(expected.sent(whole.shouts))
    for key in ("ada", "bob", "cy"):
        assert found.runs[key].state(flow.count) == expected.runs[key].state(whole.count)
    assert [letter.id for letter in found.dead_letters] == [letter.id for letter in expected.dead_letters]


def test_a_message_leaves_twice_with_one_id_when_the_process_dies_before_it_is_ticked_off(
    flow: Words, harness: Harness
) -> None:
    harness.crash_at("after:relay-send")
    harness.send(flow.words, Word("ada", "tea"))

    assert harness.crashes == 1
    assert harness.sent(flow.shouts) == [Word("ada", "TEA! 00:00")] * 2
    assert harness.sent(flow.shouts, unique=True) == [Word("ada", "TEA! 00:00")]


def test_a_crash_can_wait_for_the_nth_time(flow: Words, harness: Harness) -> None:
    harness.crash_at("before:commit:3")
    for text in ("a", "b"):
        harness.send(flow.words, Word("ada", text))
    assert harness.crashes == 0

    harness.send(flow.words, Word("ada", "c"))

    assert harness.crashes == 1
    assert harness.runs["ada"].state(flow.count) == Tally(3, "c")


def test_nodes_and_sinks_can_be_replaced(flow: Words) -> None:
    taken: list[Word] = []

    def quiet(event: Event[Word], ctx: Context) -> Word:
        return event.data

    def picky(word: Word) -> None:
        if word.text == "milk":
            raise Reject("no milk")
        taken.append(word)

    with Harness(flow.workflow, replace={flow.shout: quiet, flow.shouts: picky}) as harness:
        harness.send_all(flow.words, [Word("ada", "tea"), Word("ada", "milk")])

        assert taken == [Word("ada", "tea")] == harness.sent(flow.shouts)
        [letter] = harness.dead_letters
        assert (letter.reason, letter.error, letter.source) == ("sink", "no milk", "shouts")


def test_a_sink_that_fails_is_tried_again_with_what_comes_next(flow: Words) -> None:
    away = [True]

    def flaky(_: Word) -> None:
        if away[0]:
            raise ConnectionError("the broker is away")

    with Harness(flow.workflow, replace={flow.shouts: flaky}) as harness:
        with pytest.raises(ConnectionError):
            harness.send(flow.words, Word("ada", "tea"))
        assert harness.runs["ada"].state(flow.count).count == 1
        away.clear()
        away.append(False)
        harness.send(flow.words, Word("ada", "milk"))

        assert [word.text for word in harness.sent(flow.shouts)] == ["TEA! 00:00", "MILK! 00:00"]


def test_a_request_gives_its_reply() -> None:
    def greet(event: Event[Word], ctx: Context) -> None:
        if not event.data.text:
            raise Reject("no text")
        if event.data.text != "quiet":
            ctx.reply({"hello": event.key, "id": event.id})

    workflow = Workflow("greeter")
    asks = workflow.source(RequestSource(Word, key="author"))
    asks.to(workflow.node(greet))
    with Harness(workflow) as harness:
        assert harness.request(asks, Word("ada", "hi"), id="r1") == {"hello": "ada", "id": "r1"}
        with pytest.raises(HarnessError, match=r"no node replied to .*: no text"):
            harness.request(asks, Word("ada", ""))
        with pytest.raises(HarnessError, match="no node replied"):
            harness.request(asks, Word("ada", "quiet"))


@dataclass
class Lines:
    workflow: Workflow
    lines: SourceHandle[str]


@pytest.fixture
def lines() -> Lines:
    def take(event: Event[str], ctx: Context[list[str]]) -> Complete | None:
        ctx.state.append(event.data)
        return Complete(len(ctx.state)) if event.data == "end" else None

    workflow = Workflow("lines", keyed=False)
    source = workflow.source(ChannelSource(str, capacity=2, name="lines"))
    source.to(workflow.node(take))
    return Lines(workflow, source)


def test_a_channel_is_bounded_and_closed_by_the_end(lines: Lines) -> None:
    with Harness(lines.workflow) as harness:
        assert harness.outcome == "running"
        with harness.batch():
            assert harness.try_send(lines.lines, "end")
            assert harness.try_send(lines.lines, "more")
            assert not harness.try_send(lines.lines, "too much")
            with pytest.raises(StoreFull, match="all 2 places"):
                harness.send(lines.lines, "too much")

        assert (harness.outcome, harness.run.result) == ("completed", 1)
        assert harness.remainder(lines.lines) == ["more"]
        with pytest.raises(SourceClosed):
            harness.try_send(lines.lines, "late")


def test_a_closed_channel_takes_nothing(lines: Lines) -> None:
    with Harness(lines.workflow) as harness:
        harness.close(lines.lines)

        assert harness.outcome == "source closed"
        with pytest.raises(SourceClosed):
            harness.send(lines.lines, "late")


def test_a_channel_knows_its_workflow_once_it_is_its_source(lines: Lines) -> None:
    channel: Any = lines.workflow._graph.sources[0].source

    assert channel._workflow == "lines"


def test_wrong_questions_get_helpful_answers(flow: Words, harness: Harness, lines: Lines) -> None:
    shouting: Any = flow.shouts
    with pytest.raises(HarnessError, match=r"no source: give what workflow\.source"):
        harness.send(shouting, Word("ada", "tea"))
    with pytest.raises(HarnessError, match="lines is no part of workflow words"):
        harness.send(lines.lines, "tea")
    wrong: Any = {"author": 1}
    with pytest.raises(CodecError, match="is no Word, which words takes"):
        harness.send(flow.words, wrong)
    with pytest.raises(HarnessError, match=r"no crash point .after:lunch. here\. There are: after:pull"):
        harness.crash_at("after:lunch")
    with pytest.raises(HarnessError, match="has many runs"):
        _ = harness.outcome
    with pytest.raises(HarnessError, match="shout has no state"):
        harness.send(flow.words, Word("ada", "tea"))
        harness.runs["ada"].state(flow.shout)
    with pytest.raises(KeyError, match=r"no run has the key .eve.\. There are: .ada."):
        _ = harness.runs["eve"]
    with pytest.raises(HarnessError, match="is no channel"):
        harness.close(flow.words)
    with pytest.raises(HarnessError, match="no RequestSource"):
        harness.request(flow.words, Word("ada", "tea"))
    with pytest.raises(HarnessError, match="the id of their place"):
        harness.send(flow.words, Word("ada", "tea"), id="x")


def test_a_key_is_asked_for_where_events_bring_their_own() -> None:
    def drop(event: Event[str], ctx: Context) -> None:
        return None

    workflow = Workflow("texts")
    texts = workflow.source(KafkaSource("texts", str))
    texts.to(workflow.node(drop))
    with Harness(workflow) as harness, pytest.raises(HarnessError, match=r"send\(\.\.\., key="):
        harness.send(texts, "tea")


def test_a_node_that_would_end_the_process_ends_the_test_instead() -> None:
    class Quits(Node[str, None, None]):
        async def open(self) -> None:
            sys.exit(3)

        def process(self, event: Event[str], ctx: Context) -> None:
            return None

    workflow = Workflow("quits", keyed=False)
    workflow.source(KafkaSource("texts", str)).to(workflow.node(Quits()))

    with pytest.raises(HarnessError, match="tried to end the process"):
        Harness(workflow)


def test_it_needs_neither_ray_nor_clients_of_servers() -> None:
    code = (
        "import sys, headrace.testing; print([m for m in ('ray', 'aiokafka', 'redis', 'fastapi') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
