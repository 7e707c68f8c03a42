"""What leaves to a Kafka sink, in each format: value, key, headers; CloudEvents against the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as OfficialEvent
from hypothesis import given
from hypothesis import strategies as st

from headrace import (
    Action,
    CloudEvents,
    Context,
    Encoder,
    Event,
    KafkaSink,
    KafkaSource,
    Reject,
    Tombstone,
    Workflow,
    WorkflowError,
)
from headrace.sources.formats import unpacker_of
from headrace.sources.packing import KafkaPacker
from headrace.testing import Harness
from headrace.testing.harness import Sent
from headrace.workflows.cloudevents import attributes_of
from headrace.workflows.codec import json_codec
from headrace.workflows.commit import DeadLetter
from headrace.workflows.packing import Emission
from headrace.workflows.records import Records

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Alert(msgspec.Struct, frozen=True):
    sensor: str
    text: str
    level: int = 0


class Passing(Action):
    ON = "on"


unchecked: Any = KafkaSink
"""For options that checkers refuse."""


def sent(
    sink: KafkaSink[Any], data: Any = None, *, headers: dict[str, str] | None = None, as_it_came: bool = False
) -> tuple[list[Sent[Any]], list[DeadLetter]]:
    """What leaves to the sink when a node returns these data, or sends its event on as it came."""
    data = Alert("s1", "hot", 3) if data is None else data
    workflow = Workflow("sending")
    alerts = workflow.source(KafkaSource("in", type(data) if as_it_came else Alert, format="json"))
    out = workflow.sink(sink)
    if as_it_came:

        def on(event: Event[Any], ctx: Context) -> Passing:
            return Passing.ON

        passing = workflow.node(on)
        alerts.to(passing)
        passing.on(Passing.ON).to(out)
    else:

        def make(event: Event[Any], ctx: Context) -> sink.type:  # type: ignore[name-defined]
            return data

        make.__annotations__["return"] = sink.type
        making = workflow.node(make)
        alerts.to(making)
        making.to(out)
    with Harness(workflow, start=NOON) as harness:
        harness.send(alerts, data if as_it_came else Alert("s1", "in"), key="s1", headers=headers)
        harness.send(alerts, data if as_it_came else Alert("s1", "in"), key="s1", headers=headers)
        return harness.messages(out), list(harness.dead_letters)


@pytest.mark.parametrize("as_it_came", [False, True])
def test_msgpack(as_it_came: bool) -> None:
    messages, _ = sent(KafkaSink("out", Alert, format="msgpack"), as_it_came=as_it_came)

    assert [message.data for message in messages] == [Alert("s1", "hot", 3)] * 2
    assert [msgspec.msgpack.decode(message.value or b"") for message in messages] == [
        {"sensor": "s1", "text": "hot", "level": 3}
    ] * 2
    assert [message.key for message in messages] == ["s1", "s1"]


@pytest.mark.parametrize(("data", "value"), [(b"\x00\xff", b"\x00\xff"), ("é", "é".encode()), ("", b"")])
def test_raw(data: Any, value: bytes) -> None:
    messages, _ = sent(KafkaSink("out", type(data), format="raw"), data)

    assert [(message.data, message.value) for message in messages] == [(data, value)] * 2


class Lines(Encoder[Alert]):
    def __init__(self) -> None:
        self.log: list[str] = []

    async def open(self) -> None:
        self.log.append("open")

    async def close(self) -> None:
        self.log.append("close")

    def encode(self, data: Alert) -> bytes:
        return f"{data.sensor};{data.text}".encode()


def test_an_encoder_of_ones_own() -> None:
    lines = Lines()

    messages, _ = sent(KafkaSink("out", Alert, encoder=lines))

    assert [(message.data, message.value) for message in messages] == [(Alert("s1", "hot", 3), b"s1;hot")] * 2
    assert lines.log == ["open", "close"]


def rejects(data: Alert) -> bytes:
    raise Reject("not this one")


@pytest.mark.parametrize(
    ("sink", "error"),
    [
        (lambda: KafkaSink("out", Alert, encoder=rejects), "not this one"),
        (
            lambda: unchecked("out", Alert, encoder=lambda data: data.text),
            "TypeError: an encoder returns bytes, not str",
        ),
        (lambda: unchecked("out", Alert, key=lambda data: None), "TypeError: a key is a str or an int, not NoneType"),
    ],
)
def test_what_can_not_be_written_is_a_dead_letter(sink: Callable[[], KafkaSink[Any]], error: str) -> None:
    messages, letters = sent(sink(), headers={"a": "1"})

    assert messages == []
    assert [(letter.source, letter.reason, letter.error, letter.key) for letter in letters] == [
        ("out", "encode", error, "s1")
    ] * 2
    assert [letter.data for letter in letters] == [msgspec.json.encode(Alert("s1", "hot", 3))] * 2
    assert letters[0].headers == (("a", b"1"),)


@pytest.mark.parametrize(("key", "written"), [("text", "hot"), ("level", "3"), (lambda data: data.text * 2, "hothot")])
@pytest.mark.parametrize("format", ["json", "cloudevents"])
def test_the_key_may_be_taken_from_the_data(key: Any, written: str, format: Any) -> None:
    messages, _ = sent(KafkaSink("out", Alert, key=key, format=format))

    assert [message.key for message in messages] == [written] * 2


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_message_larger_than_its_sink_takes_is_a_dead_letter_of_its_event(format: Any) -> None:
    text = "x" * 1_000
    messages, letters = sent(KafkaSink("out", Alert, format=format, max_bytes=1_100), Alert("s1", text, 3))

    assert messages == []
    assert [(letter.source, letter.node, letter.reason, letter.key) for letter in letters] == [
        ("out", None, "size", "s1")
    ] * 2
    assert "over the cap of 1100" in letters[0].error
    assert letters[0].data == msgspec.json.encode(Alert("s1", text, 3))


def test_headers_count_for_the_size_of_a_message() -> None:
    sink = KafkaSink("out", Alert, headers="all", max_bytes=2_000)

    assert len(sent(sink, headers={"note": "x" * 100})[0]) == 2
    assert len(sent(sink, headers={"note": "x" * 2_000})[1]) == 2


def test_headers_for_tracing_go_on_and_others_by_choice() -> None:
    given = {"traceparent": TRACE, "tracestate": "a=1", "tenant": "t", "other": "o", "content-type": "x", "ce_id": "7"}

    plain, _ = sent(KafkaSink("out", Alert), headers=given)
    some, _ = sent(KafkaSink("out", Alert, headers=["tenant"]), headers=given)
    every, _ = sent(KafkaSink("out", Alert, headers="all"), headers=given)

    trace = {"traceparent": TRACE, "tracestate": "a=1"}
    assert plain[0].headers == trace
    assert some[0].headers == {**trace, "tenant": "t"}
    assert every[0].headers == {**trace, "tenant": "t", "other": "o"}


@pytest.mark.parametrize("format", ["json", "msgpack", "raw", "cloudevents"])
def test_a_tombstone_leaves_without_a_value_under_the_runs_key(format: Any) -> None:
    data_type: Any = str if format == "raw" else Alert

    messages, _ = sent(
        unchecked("out", data_type, format=format, tombstones=True), Tombstone(), headers={"traceparent": TRACE}
    )

    assert [(message.key, message.value, message.data) for message in messages] == [("s1", None, Tombstone())] * 2
    assert messages[0].headers == {"traceparent": TRACE}


def test_a_sink_takes_tombstones_only_where_it_says_so() -> None:
    workflow = Workflow("deleting")
    alerts = workflow.source(KafkaSource("in", Alert, key="sensor", tombstones="deliver"))
    alerts.to(workflow.sink(unchecked("out", Alert)))

    with pytest.raises(WorkflowError, match="Tombstone"):
        workflow.compile()


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        (lambda: unchecked("t", Alert, format="xml"), "there is no format 'xml'"),
        (lambda: unchecked("t", Alert, format="raw"), "format='raw' is for bytes and str"),
        (lambda: unchecked("t", Alert, format="msgpack", encoder=Lines()), "both format='msgpack' and encoder="),
        (lambda: unchecked("t", Alert, format=CloudEvents(), encoder=Lines()), "both format= and encoder="),
        (lambda: unchecked("t", Alert, key="sensr"), "Alert has no field 'sensr'"),
        (lambda: unchecked("t", Alert, headers="tenant"), "headers='tenant' is one name"),
        (lambda: unchecked("t", Alert, delivery="once"), "there is no delivery 'once'"),
        (lambda: unchecked("t", Alert, max_bytes=10), "max_bytes=10 leaves no room"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_the_build(sink: Any, message: str) -> None:
    workflow = Workflow("wrong")
    source = workflow.source(KafkaSource("in", Alert, key="sensor"))
    source.to(workflow.sink(sink()))

    with pytest.raises(WorkflowError, match=message):
        workflow.compile()


# CloudEvents, against the SDK


def official(message: Sent[Any], mode: str) -> Any:
    """The message as the official SDK reads it."""
    assert message.value is not None
    headers = {name: value.encode() for name, value in message.headers.items()}
    read = from_binary if mode == "binary" else from_structured
    return read(KafkaMessage(headers, None, message.value), JSONFormat())


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_sdk_reads_what_a_sink_writes(mode: Any) -> None:
    messages, _ = sent(KafkaSink("out", Alert, format=CloudEvents(mode=mode)))

    events = [official(message, mode) for message in messages]
    assert [event.get_id() for event in events] == [message.id for message in messages]
    [event, _] = events
    assert (event.get_type(), event.get_source(), event.get_subject()) == ("Alert", "/headrace/sending", "s1")
    assert event.get_time() == NOON
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"sensor": "s1", "text": "hot", "level": 3}


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(("data", "read"), [(b"\xff\x00", b"\xff\x00"), ("hello", None)])
def test_the_sdk_reads_data_that_are_no_json(mode: Any, data: Any, read: Any) -> None:
    options = CloudEvents(type="com.example.blob", source="/me", mode=mode)

    messages, _ = sent(KafkaSink("out", type(data), format=options), data)

    event = official(messages[0], mode)
    assert (event.get_type(), event.get_source()) == ("com.example.blob", "/me")
    found = event.get_data()
    assert (found.encode() if isinstance(found, str) else found) == (data if isinstance(data, bytes) else data.encode())
    assert read is None or found == read


NAMED = ("id", "source", "type", "specversion", "time", "subject", "datacontenttype", "dataschema")
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in (*NAMED, "data", "partitionkey")
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
EVENTS = st.builds(
    lambda id, source, type, subject, time, extensions, data: OfficialEvent(
        {"id": id, "source": source, "type": type, "subject": subject, "time": time, "specversion": "1.0",
         "datacontenttype": "application/json", **extensions},
        data,
    ),
    id=WORDS, source=WORDS, type=WORDS, subject=WORDS,
    time=st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    extensions=st.dictionaries(NAMES, WORDS, max_size=3),
    data=st.fixed_dictionaries({"sensor": st.text(), "text": st.text(), "level": st.integers(0, 9)}),
)  # fmt: skip


@given(EVENTS, st.sampled_from([to_binary, to_structured]))
def test_any_event_that_the_sdk_writes_is_read(event: Any, write: Any) -> None:
    message = write(event, JSONFormat())
    unpacker = unpacker_of("cloudevents", Alert, None)
    assert unpacker is not None
    headers = tuple(message.headers.items())

    unpacked = unpacker.unpack(Records(0, "t/0", [0], [0], [None], [message.value], "1", [headers]))

    assert unpacked.faults is None
    found = attributes_of(unpacked.headers[0] if unpacked.headers else ())
    assert found is not None
    assert (found.id, found.source, found.type, found.subject, found.time) == (
        event.get_id(), event.get_source(), event.get_type(), event.get_subject(), event.get_time(),
    )  # fmt: skip
    assert dict(found.extensions) == {
        name: value for name, value in event.get_attributes().items() if name not in NAMED
    }
    assert unpacked.times == [int(event.get_time().timestamp() * 1000)]
    assert json_codec(Alert).decode(unpacked.values[0] or b"") == Alert(**event.get_data())


ALERTS = st.builds(Alert, sensor=st.text(), text=st.text(), level=st.integers(-(2**53), 2**53))


@given(ALERTS, st.sampled_from(["msgpack", CloudEvents(), CloudEvents(mode="structured")]), st.text(min_size=1))
def test_any_data_that_a_sink_writes_a_source_reads(data: Alert, format: Any, key: str) -> None:
    packer = KafkaPacker(KafkaSink("t", Alert, format=format), "w")
    message = packer.pack(Emission("e/1", key, 1_700_000_000_123, msgspec.json.encode(data), ()))
    unpacker = unpacker_of("msgpack" if format == "msgpack" else "cloudevents", Alert, None)
    assert unpacker is not None

    unpacked = unpacker.unpack(Records(0, "t/0", [0], [0], [None], [message.value], "1", [message.headers]))

    assert unpacked.faults is None
    assert json_codec(Alert).decode(unpacked.values[0] or b"") == data
    if format != "msgpack":
        assert unpacked.times == [1_700_000_000_123]


def test_what_a_node_deletes_leaves_without_a_value_among_others() -> None:
    """All that a node returns leaves at once, so a tombstone is no text among texts there."""

    def forget_cold(event: Event[Alert], ctx: Context) -> Alert | Tombstone:
        return Tombstone() if event.data.level < 0 else event.data

    workflow = Workflow("deleting")
    alerts = workflow.source(KafkaSource("in", Alert, key="sensor"))
    out = workflow.sink(unchecked("out", Alert, tombstones=True))
    forgetting = workflow.node(forget_cold)
    alerts.to(forgetting)
    forgetting.to(out)

    with Harness(workflow) as harness:
        for level in (1, -1, 2):
            harness.send(alerts, Alert("s1", "hot", level))
        assert [message.value is None for message in harness.messages(out)] == [False, True, False]
