"""Dead letters that go back: to the node, sink or source where each stopped, once, with its id, in order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import Action, ChannelSource, Context, Event, KafkaSink, KafkaSource, Reject, Tombstone, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from headrace.workflows.commit import DeadLetter
from headrace.workflows.records import Reentry
from headrace.workflows.reentry import back
from headrace.workflows.retention import Kept
from headrace.workflows.store import DestinationEnded
from headrace.workflows.transfers import encode

FUSES: tuple[Any, ...] = (None, "all")


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: int


class Alert(msgspec.Struct, frozen=True):
    """Of another shape than a reading: one can't be taken for the other."""

    sensor: str
    text: str


class Seen(msgspec.Struct):
    last: list[int] = []


class Way(Action):
    ON = "on"


class Faults:
    """What nodes can't do for now, and what they were asked for."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.keys: list[str] = []
        """Idempotency keys that `warn` was called with."""


def alerts(fuse: Any = None, faults: Faults | None = None, source: Any = None) -> tuple[Workflow, Any, Any, Any]:
    """Count -> warn -> tell -> sink; `warn` and `tell` fail for the sensors in `faults.bad`."""
    faults = faults or Faults()
    workflow = Workflow("alerts")

    def count(event: Event[Reading], ctx: Context[Seen]) -> Way:
        ctx.state.last = [*ctx.state.last, event.data.celsius]
        return Way.ON

    def warn(event: Event[Reading], ctx: Context) -> Alert:
        faults.keys.append(ctx.idempotency_key)
        if f"warn {event.data.sensor}" in faults.bad:
            raise ValueError("no warning now")
        return Alert(event.data.sensor, f"{event.data.celsius} degrees")

    def tell(event: Event[Alert], ctx: Context[Seen]) -> Alert:
        ctx.state.last = [*ctx.state.last, len(event.data.text)]
        if f"tell {event.data.sensor}" in faults.bad:
            raise ValueError("nobody is there")
        return event.data

    readings = workflow.source(source or KafkaSource("readings", Reading, key="sensor"))
    counting, warning, telling = workflow.node(count), workflow.node(warn), workflow.node(tell)
    sink = workflow.sink(KafkaSink("alerts", Alert))
    readings.to(counting)
    counting.on(Way.ON).to(warning)
    warning.to(telling)
    telling.to(sink)
    if fuse == "all":
        workflow.fuse(counting, warning, telling)
    return workflow, readings, (counting, warning, telling), sink


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("place", ["warn", "tell"])
def test_an_event_goes_back_to_the_node_at_which_it_stopped_and_to_no_other(fuse: Any, place: str) -> None:
    faults = Faults()
    workflow, source, (counting, _, telling), sink = alerts(fuse, faults)
    with Harness(workflow) as harness:
        harness.send(source, Reading("s1", 20))
        faults.bad = {f"{place} s1"}
        harness.send(source, Reading("s1", 300))
        (letter,) = harness.dead_letters
        faults.bad.clear()

        assert harness.replay() == 1

        assert harness.dead_letters == []
        assert harness.sent(sink) == [Alert("s1", "20 degrees"), Alert("s1", "300 degrees")]
        assert harness.runs["s1"].state(counting).last == [20, 300], "what came before it is not done again"
        assert harness.runs["s1"].state(telling).last == [10, 11]
        first, second = harness.messages(sink)
        assert second.id == first.id.replace("/0.", "/1."), "the id that it would have had"
        assert letter.node == place
        assert second.time == first.time
        assert letter.event_time == first.time.timestamp() * 1000


@pytest.mark.parametrize("fuse", FUSES)
def test_what_a_node_asks_others_for_has_the_key_of_the_first_try(fuse: Any) -> None:
    faults = Faults()
    workflow, source, _, _ = alerts(fuse, faults)
    with Harness(workflow) as harness:
        faults.bad = {"warn s1"}
        harness.send(source, Reading("s1", 20))
        harness.replay()
        faults.bad.clear()
        harness.replay()

        first, *others = faults.keys
        assert others == [first, first]


@pytest.mark.parametrize("fuse", FUSES)
def test_letters_go_back_in_the_order_in_which_they_came(fuse: Any) -> None:
    faults = Faults()
    workflow, source, _, sink = alerts(fuse, faults)
    with Harness(workflow) as harness:
        faults.bad = {f"{place} s{number}" for number in range(5) for place in ("warn", "tell") if number % 2}
        with harness.batch():
            for number in range(2000):
                harness.send(source, Reading(f"s{number % 5}", number))
        assert len(harness.dead_letters) == 800
        faults.bad.clear()

        assert harness.replay() == 800

        for sensor in range(5):
            texts = [alert.text for alert in harness.sent(sink) if alert.sensor == f"s{sensor}"]
            assert texts == [f"{number} degrees" for number in range(sensor, 2000, 5)]


def test_only_the_letters_that_are_named_go_back_and_each_once() -> None:
    faults = Faults()
    workflow, source, _, sink = alerts(faults=faults)
    with Harness(workflow) as harness:
        faults.bad = {"warn s1", "warn s2"}
        for sensor in ("s1", "s2"):
            harness.send(source, Reading(sensor, 1))
        faults.bad.clear()
        chosen = next(letter for letter in harness.dead_letters if letter.key == "s2")

        assert harness.replay(chosen) == 1
        assert harness.replay(chosen) == 0

        assert [letter.key for letter in harness.dead_letters] == ["s1"]
        assert harness.sent(sink) == [Alert("s2", "1 degrees")]


def test_an_event_that_stops_again_can_go_back_again() -> None:
    faults = Faults()
    workflow, source, _, sink = alerts(faults=faults)
    with Harness(workflow) as harness:
        faults.bad = {"tell s1"}
        harness.send(source, Reading("s1", 1))
        (first,) = harness.dead_letters
        harness.replay()
        (second,) = harness.dead_letters
        faults.bad.clear()
        harness.replay()

        assert (second.id, second.node, second.type, second.data, second.reentry) == (
            first.id, first.node, first.type, first.data, first.reentry,
        )  # fmt: skip
        assert first.type == "Alert"
        assert harness.sent(sink) == [Alert("s1", "1 degrees")]


def test_a_message_that_its_sink_refused_goes_back_to_the_sink() -> None:
    refuse = True

    def take(alert: Any) -> None:
        if refuse:
            raise Reject("the topic was deleted")

    workflow, source, (counting, _, _), sink = alerts()
    with Harness(workflow, replace={sink: take}) as harness:
        harness.send(source, Reading("s1", 1))
        (letter,) = harness.dead_letters
        refuse = False
        harness.replay()

        assert (letter.reason, letter.source) == ("sink", "alerts")
        assert harness.dead_letters == []
        assert [message.id for message in harness.messages(sink)] == [letter.id]
        assert harness.runs["s1"].state(counting).last == [1]


def test_a_message_that_could_not_be_encoded_is_encoded_again() -> None:
    broken = True

    def encode_alert(alert: Alert) -> bytes:
        if broken:
            raise ValueError("no schema")
        return f"<{alert.text}>".encode()

    workflow = Workflow("encoded")

    def tell(event: Event[Reading], ctx: Context) -> Alert:
        return Alert(event.data.sensor, "hot")

    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    node, sink = workflow.node(tell), workflow.sink(KafkaSink("alerts", Alert, encoder=encode_alert))
    readings.to(node)
    node.to(sink)
    with Harness(workflow) as harness:
        harness.send(readings, Reading("s1", 1))
        (letter,) = harness.dead_letters
        broken = False
        harness.replay()

        assert letter.reason == "encode"
        assert [message.value for message in harness.messages(sink)] == [b"<hot>"]
        assert harness.dead_letters == []


def test_a_record_that_was_no_event_comes_in_by_its_source_again() -> None:
    broken = True

    def time_of(reading: Reading) -> int:
        if broken:
            raise ValueError("no calendar")
        return reading.celsius

    workflow, source, _, sink = alerts(source=KafkaSource("readings", Reading, key="sensor", time=time_of))
    with Harness(workflow) as harness:
        harness.send(source, Reading("s1", 1))
        (letter,) = harness.dead_letters
        broken = False
        harness.replay()

        assert (letter.reason, letter.node, letter.reentry) == ("time", None, None)
        assert harness.sent(sink) == [Alert("s1", "1 degrees")]
        assert [message.id for message in harness.messages(sink)] == [f"{letter.id}.0.0"]


def test_data_in_its_sources_own_format_goes_back_through_it() -> None:
    faults = Faults()
    workflow, source, _, sink = alerts(
        faults=faults, source=KafkaSource("readings", Reading, key="sensor", format="msgpack")
    )
    with Harness(workflow) as harness:
        faults.bad = {"warn s1"}
        harness.send(source, Reading("s1", 1))
        (letter,) = harness.dead_letters
        assert letter.data == msgspec.msgpack.encode(Reading("s1", 1))
        faults.bad.clear()
        harness.replay()

        assert harness.sent(sink) == [Alert("s1", "1 degrees")]


def test_a_tombstone_goes_back_as_one() -> None:
    broken = True
    workflow = Workflow("deleted")

    def forget(event: Event[Reading | Tombstone], ctx: Context) -> Alert:
        if broken:
            raise ValueError("not now")
        return Alert(event.key, "gone" if isinstance(event.data, Tombstone) else "there")

    source = workflow.source(KafkaSource("readings", Reading, tombstones="deliver"))
    node, sink = workflow.node(forget), workflow.sink(KafkaSink("alerts", Alert))
    source.to(node)
    node.to(sink)
    with Harness(workflow) as harness:
        harness.send(source, Tombstone(), key="s1")
        broken = False
        harness.replay()

        assert harness.sent(sink) == [Alert("s1", "gone")]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (Reentry(node="gone"), "the node 'gone'"),
        (Reentry(node="warn", type="Gone"), "the type 'Gone'"),
        (Reentry(sink="gone"), "the sink 'gone'"),
    ],
)
def test_what_this_version_does_not_have_is_said_and_kept_for_one_that_has(entry: Reentry, what: str) -> None:
    workflow, source, _, _ = alerts()
    letter = DeadLetter(
        id="readings/0/7.1", key="s1", source="readings", node=entry.node or None, reason="error", error="",
        data=b'{"a":1}', reentry=entry, event_time=5,
    )  # fmt: skip
    with Harness(workflow, partitions=1) as harness:
        put_in(harness, letter)
        harness.send(source, Reading("s1", 1))

        (found,) = harness.dead_letters
        assert found.reason == "version"
        assert what in found.error
        assert (found.id, found.key, found.data, found.reentry) == (letter.id, letter.key, letter.data, letter.reentry)
        assert found.node == letter.node


def put_in(harness: Harness, letter: DeadLetter) -> None:
    """As if it had been sent back."""
    store = harness._engine.store
    held = store._of(0)
    held.dead.append(Kept("1-1", letter, 0, 0))
    assert store.replay(0, [("1-1", encode(back(letter, 0)))], most=10) == 1


def test_an_event_that_went_round_too_often_counts_anew() -> None:
    turns = 1_000
    workflow = Workflow("rounds")

    class Turn(Action):
        AGAIN = "again"
        DONE = "done"

    def turn(event: Event[Reading], ctx: Context[Seen]) -> Turn:
        ctx.state.last = [len(ctx.state.last)] * (len(ctx.state.last) + 1)
        return Turn.AGAIN if len(ctx.state.last) < turns else Turn.DONE

    source, node = workflow.source(KafkaSource("readings", Reading, key="sensor")), workflow.node(turn)
    source.to(node)
    node.on(Turn.AGAIN).to(node)
    node.on(Turn.DONE).to(None)
    with Harness(workflow) as harness:
        harness.send(source, Reading("s1", 1))
        (letter,) = harness.dead_letters
        turns = 0
        harness.replay()

        assert letter.reason == "hops"
        assert harness.dead_letters == []


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_whatever_is_interrupted_each_goes_back_once(point: str, fuse: Any) -> None:
    faults = Faults()
    workflow, source, (counting, _, telling), sink = alerts(fuse, faults)
    with Harness(workflow, partitions=2) as harness:
        faults.bad = {"tell s1", "warn s3"}
        with harness.batch():
            for number in range(40):
                harness.send(source, Reading(f"s{number % 4}", number))
        faults.bad.clear()
        harness.crash_at(point)
        harness.replay()

        assert harness.dead_letters == []
        assert len({message.id for message in harness.messages(sink)}) == 40
        for sensor in range(4):
            assert harness.runs[f"s{sensor}"].state(counting).last == list(range(sensor, 40, 4))
            assert len(harness.runs[f"s{sensor}"].state(telling).last) == 10


@pytest.mark.parametrize(("node", "reason"), [(None, "gap"), ("warn", "error")])
def test_what_has_no_way_back_stays_where_it_is(node: str | None, reason: str) -> None:
    workflow, _, _, _ = alerts()
    letter = DeadLetter(id="readings/0/7", key="", source="readings", node=node, reason=reason, error="lost")
    with Harness(workflow, partitions=1) as harness:
        store = harness._engine.store
        store._of(0).dead.append(Kept("1-1", letter, store.now, 0))

        assert harness.replay() == 0
        assert harness.dead_letters == [letter]


def test_data_that_the_type_no_longer_fits_keeps_its_way_back() -> None:
    workflow, _, _, _ = alerts()
    letter = DeadLetter(
        id="readings/0/7.0", key="s1", source="readings", node="tell", reason="error", error="", event_time=5,
        data=b'{"sensor":"s1"}', reentry=Reentry(node="tell", type="Alert", visits=2),
    )  # fmt: skip
    with Harness(workflow, partitions=1) as harness:
        put_in(harness, letter)
        harness.advance(timedelta(0))

        (found,) = harness.dead_letters
        assert (found.reason, found.error) == ("decode", "Object missing required field `text`")
        assert (found.id, found.node, found.type, found.data) == (letter.id, "tell", "Alert", letter.data)
        assert found.reentry == letter.reentry


def test_the_run_of_a_workflow_without_keys_has_its_letters_back_until_it_ends() -> None:
    broken = True
    workflow = Workflow("lines", keyed=False)

    def keep(event: Event[str], ctx: Context[list[str]]) -> None:
        if broken and event.data != "good":
            raise ValueError("not now")
        ctx.state = [*ctx.state, event.data]

    source, node = workflow.source(ChannelSource(str, name="lines", capacity=10)), workflow.node(keep)
    source.to(node)
    with Harness(workflow) as harness:
        for line in ("bad", "good", "worse"):
            harness.send(source, line)
        broken = False
        first, second = harness.dead_letters

        assert harness.replay(second) == 1
        assert harness.run.state(node) == ["good", "worse"]
        harness.close(source)
        with pytest.raises(DestinationEnded):
            harness.replay(first)
        assert harness.dead_letters == [first]


def test_what_one_node_calls_no_data_stopped_at_the_other_node_by_its_own_fault() -> None:
    workflow = Workflow("both")

    def reads(event: Event[Reading], ctx: Context) -> None:
        msgspec.json.decode(b"{")

    def fails(event: Event[Reading], ctx: Context) -> None:
        raise ValueError("not now")

    source = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    source.to(workflow.node(fails, name="early"), workflow.node(reads), workflow.node(fails, name="late"))
    with Harness(workflow) as harness:
        harness.send(source, Reading("s1", 1))

        letters = [letter for letter in harness.dead_letters if letter.reason == "error"]
        assert [letter.node for letter in letters] == ["early", "late"]
        assert [letter.reentry for letter in letters] == [
            Reentry(node=name, visits=1, depth=1) for name in ("early", "late")
        ]
