"""What a record of each format becomes as an event, and what becomes of those that are none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import (
    CloudEvent,
    Context,
    Decoder,
    Event,
    KafkaRecord,
    KafkaSource,
    Node,
    Reject,
    RequestSource,
    Tombstone,
    Unavailable,
    Workflow,
    WorkflowError,
)
from headrace.sources.channel import ChannelSender, ChannelSource
from headrace.sources.formats import unpacker_of
from headrace.testing import Harness
from headrace.workflows.commit import DeadLetter
from headrace.workflows.descriptor import descriptor_of
from headrace.workflows.records import Headers, Records

unchecked: Any = KafkaSource
"""For options that checkers refuse."""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Place(msgspec.Struct, frozen=True, rename="camel"):
    room_id: str
    floor: int = 0


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float = 0.0
    at: datetime = NOON
    place: Place = Place("hall")


class Seen(msgspec.Struct):
    """The state: what the node saw, in order."""

    data: list[str] = []
    times: list[datetime] = []
    headers: list[dict[str, str]] = []


class See(Node[Any, Seen, None]):
    def process(self, event: Event[Any], ctx: Context[Seen]) -> None:
        ctx.state.data.append(repr(event.data))
        ctx.state.times.append(event.time)
        ctx.state.headers.append(dict(event.headers))
        if "refuse" in event.headers:
            raise Reject("asked to")


class Outcome:
    """A workflow of one source and one node that sees its events."""

    def __init__(self, source: KafkaSource[Any], *, fuse: bool = False) -> None:
        workflow = Workflow("seeing")
        self.source = workflow.source(source)
        self.see = workflow.node(See())
        self.source.to(self.see)
        self.harness = Harness(workflow, fuse="all" if fuse else None)
        self.stopped = False

    def raw(self, value: bytes | None, key: str | None = None, **headers: str | bytes) -> None:
        given: Mapping[str, str | bytes] = {
            name.replace("_", "-", name == "content_type"): v for name, v in headers.items()
        }
        self.harness.send_raw(self.source, value, key=key, headers=given)

    def stop(self) -> None:
        if not self.stopped:
            self.harness.stop()
        self.stopped = True

    def seen(self, key: str) -> Seen:
        found: Seen = self.harness.runs[key].state(self.see)
        return found

    def letters(self) -> list[DeadLetter]:
        return list(self.harness.dead_letters)

    def reasons(self) -> list[str]:
        return [letter.reason for letter in self.letters()]


@pytest.fixture(params=[False, True], ids=["node actors", "fused"])
def outcome(request: pytest.FixtureRequest) -> Any:
    """Makes an outcome, and ends it: the same must come out whether or not the node is fused."""
    made: list[Outcome] = []

    def make(source: KafkaSource[Any]) -> Outcome:
        made.append(Outcome(source, fuse=request.param))
        return made[-1]

    yield make
    for one in made:
        one.stop()


Make = Callable[[KafkaSource[Any]], Outcome]
READING = Reading("s1", 21.5)


def test_msgpack(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="msgpack"))

    run.raw(msgspec.msgpack.encode(READING), "s1")

    assert run.seen("s1").data == [repr(READING)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xc1", "decode"),
        (msgspec.msgpack.encode({"sensor": 3}), "decode"),
        (b"", "decode"),
        (msgspec.msgpack.encode({"sensor": "s1", "celsius": float("nan")}), "decode"),
        (msgspec.msgpack.encode({"sensor": ""}), "key"),
        (msgspec.msgpack.encode("x" * (5 << 20)), "size"),
        (None, "tombstone"),
    ],
    ids=["no msgpack", "wrong type", "empty", "NaN", "empty key", "5 MB", "tombstone"],
)
def test_F06_what_is_no_msgpack_of_the_type_is_a_dead_letter_and_nothing_else_is(
    outcome: Make, value: bytes | None, reason: str
) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="msgpack"))
    with run.harness.batch():
        run.raw(msgspec.msgpack.encode(READING), "s1", trace=b"1")
        run.raw(value, "s1", trace=b"2")
        run.raw(msgspec.msgpack.encode(READING), "s1", trace=b"3")

    [letter] = run.letters()
    assert (letter.reason, letter.data, letter.headers) == (reason, value, (("trace", b"2"),))
    assert letter.error
    assert [headers["trace"] for headers in run.seen("s1").headers] == ["1", "3"]


@pytest.mark.parametrize(
    ("data_type", "value", "data"),
    [(bytes, b"\x00\xff", b"\x00\xff"), (bytes, b"", b""), (str, "é".encode(), "é"), (str, b"", "")],
)
def test_raw_is_the_value_itself(outcome: Make, data_type: type[Any], value: bytes, data: object) -> None:
    run = outcome(KafkaSource("t", data_type, format="raw"))

    run.raw(value, "k")

    assert run.seen("k").data == [repr(data)]


@pytest.mark.parametrize(("value", "reason"), [(b"\xff", "decode"), (b"x" * (5 << 20), "size"), (None, "tombstone")])
def test_F06_raw_text(outcome: Make, value: bytes | None, reason: str) -> None:
    run = outcome(KafkaSource("t", str, format="raw"))
    with run.harness.batch():
        run.raw(b"before", "k")
        run.raw(value, "k")
        run.raw(b"after", "k")

    assert [(letter.reason, letter.data) for letter in run.letters()] == [(reason, value)]
    assert run.seen("k").data == ["'before'", "'after'"]


def test_what_fails_at_a_node_is_kept_as_it_came(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="msgpack"))
    value = msgspec.msgpack.encode(READING)

    run.raw(value, "s1", refuse=b"yes")

    [letter] = run.letters()
    assert (letter.node, letter.reason, letter.data, letter.headers) == ("see", "reject", value, (("refuse", b"yes"),))


class Backwards(Decoder[Reading]):
    """JSON, written backwards; `later` says how often it can't be read yet."""

    def __init__(self, later: int = 0) -> None:
        self.later = later
        self.log: list[str] = []

    async def open(self) -> None:
        self.log.append("open")

    async def close(self) -> None:
        self.log.append("close")

    def decode(self, record: KafkaRecord) -> Reading:
        if self.later:
            self.later -= 1
            raise Unavailable("the mirror is away")
        self.log.append(f"{record.topic} {dict(record.headers)} {record.key!r}")
        return msgspec.json.decode(record.value[::-1], type=Reading)


def backwards(data: Any) -> bytes:
    return msgspec.json.encode(data)[::-1]


def test_a_decoder_of_ones_own(outcome: Make) -> None:
    decoder = Backwards()
    run = outcome(KafkaSource("t", Reading, key="sensor", decoder=decoder))

    run.raw(backwards(READING), "s1", a=b"1")
    run.stop()

    assert run.seen("s1").data == [repr(READING)]
    assert decoder.log == ["open", "t {'a': b'1'} b's1'", "close"]


def test_a_decoder_of_a_pattern_of_topics_is_told_the_sources_name(outcome: Make) -> None:
    decoder = Backwards()
    run = outcome(KafkaSource(re.compile("t-.*"), Reading, key="sensor", decoder=decoder, name="all"))

    run.raw(backwards(READING), "s1")

    assert decoder.log[1].startswith("all ")


def test_a_function_may_be_the_decoder(outcome: Make) -> None:
    def decode(record: KafkaRecord) -> str:
        return record.value.decode("utf-16")

    run = outcome(KafkaSource("t", str, decoder=decode))

    run.raw("é".encode("utf-16"), "k")

    assert run.seen("k").data == ["'é'"]


@pytest.mark.parametrize(
    ("value", "reason"), [(b"x", "decode"), (backwards({"sensor": 3}), "decode"), (b"", "decode"), (None, "tombstone")]
)
def test_F06_what_a_decoder_can_not_read(outcome: Make, value: bytes | None, reason: str) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", decoder=Backwards()))
    with run.harness.batch():
        run.raw(backwards(READING), "s1")
        run.raw(value, "s1", a=b"1")
        run.raw(backwards(READING), "s1")

    [letter] = run.letters()
    assert (letter.reason, letter.data, letter.headers) == (reason, value, (("a", b"1"),))
    assert len(run.seen("s1").data) == 2


def test_what_a_decoder_returns_has_to_fit_the_type(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", decoder=lambda record: Reading("s1", celsius="warm")))  # type: ignore[arg-type]

    run.raw(b"", "s1")

    [letter] = run.letters()
    assert letter.reason == "decode"
    assert "$.celsius" in letter.error


def test_a_decoder_that_is_unavailable_makes_no_dead_letters() -> None:
    unpacker = unpacker_of("json", Reading, Backwards(later=1))
    assert unpacker is not None
    records = Records(0, "t/0", [0], [0], [b"s1"], [backwards(READING)], "1")

    with pytest.raises(Unavailable, match="the mirror is away"):
        unpacker.unpack(records)

    unpacked = unpacker.unpack(records)
    assert (unpacked.data, unpacked.faults, unpacked.original) == ([READING], None, records)


def structured(data: Any = READING, **attributes: Any) -> bytes:
    given = {"specversion": "1.0", "id": "7", "source": "/s", "type": "read", "data": data, **attributes}
    return msgspec.json.encode({name: value for name, value in given.items() if value is not ...})


BINARY = {"ce_specversion": b"1.0", "ce_id": b"7", "ce_source": b"/s", "ce_type": b"read"}
STRUCTURED = {"content_type": "application/cloudevents+json; charset=UTF-8"}


def test_a_structured_cloudevent(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="cloudevents"))
    value = structured(subject="s1", time="2026-02-03T04:05:06.789Z", tenant="a", retries=3, hot=True)

    run.raw(value, "s1", **STRUCTURED, refuse=b"yes")
    run.raw(value, "s1", **STRUCTURED, trace=b"1")

    seen = run.seen("s1")
    assert seen.data == [repr(READING)]
    assert seen.times == [datetime(2026, 2, 3, 4, 5, 6, 789_000, UTC)]
    assert seen.headers == [
        {
            "trace": "1", "ce_specversion": "1.0", "ce_id": "7", "ce_source": "/s", "ce_type": "read",
            "ce_subject": "s1", "ce_time": "2026-02-03T04:05:06.789Z", "ce_tenant": "a",
            "ce_retries": "3", "ce_hot": "true",
        }
    ]  # fmt: skip
    [letter] = run.letters()
    assert letter.data == value
    assert [name for name, _ in letter.headers] == ["content-type", "refuse"]


@pytest.mark.parametrize("content_type", [None, "application/json; charset=utf-8", "application/vnd.reading+json"])
def test_a_binary_cloudevent(outcome: Make, content_type: str | None) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="cloudevents"))
    more = {} if content_type is None else {"content_type": content_type}

    run.raw(msgspec.json.encode(READING), "s1", **BINARY, ce_time=b"2026-02-03T05:05:06+01:00", **more)

    assert run.seen("s1").data == [repr(READING)]
    assert run.seen("s1").times == [datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("data_type", "value", "headers", "data"),
    [
        (bytes, b"\xff", {**BINARY, "content_type": "image/png"}, b"\xff"),
        (str, b"hello", {**BINARY, "content_type": "text/plain"}, "hello"),
        (bytes, structured(..., data_base64="/w=="), STRUCTURED, b"\xff"),
        (bytes, structured("hi", datacontenttype="text/plain"), STRUCTURED, b"hi"),
        (str, structured("hi", datacontenttype="text/plain"), STRUCTURED, "hi"),
        (dict, msgspec.msgpack.encode({"a": 1}), {**BINARY, "content_type": "application/msgpack"}, {"a": 1}),
        (dict, structured({"a": 1}), STRUCTURED, {"a": 1}),
    ],
)
def test_data_of_a_cloudevent_by_their_media_type(
    outcome: Make, data_type: type[Any], value: bytes, headers: dict[str, Any], data: object
) -> None:
    run = outcome(KafkaSource("t", data_type, format="cloudevents"))

    run.raw(value, "k", **headers)

    assert run.reasons() == []
    assert run.seen("k").data == [repr(data)]


@pytest.mark.parametrize(
    ("value", "headers", "reason", "says"),
    [
        (b"{}", {}, "decode", "no CloudEvent"),
        (b"{", STRUCTURED, "decode", "truncated"),
        (b"", STRUCTURED, "decode", "truncated"),
        (b"[]", STRUCTURED, "decode", "object"),
        (structured(id=""), STRUCTURED, "decode", "'id'"),
        (structured(source=None), STRUCTURED, "decode", "'source'"),
        (structured(specversion="0.3"), STRUCTURED, "decode", "0.3"),
        (structured(time="soon"), STRUCTURED, "decode", "time"),
        (structured(data_base64="AA=="), STRUCTURED, "decode", "both"),
        (structured({"sensor": 1}), STRUCTURED, "decode", "$.sensor"),
        (structured(...), STRUCTURED, "decode", "null"),
        (structured(subject={"a": 1}), STRUCTURED, "decode", "'subject'"),
        (b"<a/>", {**BINARY, "content_type": "text/xml"}, "decode", "text/xml"),
        (b"[]", {"content_type": "application/cloudevents-batch+json"}, "decode", "batch"),
        (b"", BINARY, "decode", "empty"),
        (structured(Reading("s1" * (3 << 20))), STRUCTURED, "size", "cap"),
        (None, BINARY, "tombstone", "no value"),
    ],
)
def test_F06_what_is_no_cloudevent(
    outcome: Make, value: bytes | None, headers: dict[str, Any], reason: str, says: str
) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format="cloudevents"))
    with run.harness.batch():
        run.raw(structured(), "s1", **STRUCTURED)
        run.raw(value, "s1", **headers)
        run.raw(structured(), "s1", **STRUCTURED)

    [letter] = run.letters()
    assert (letter.reason, letter.data) == (reason, value)
    assert says in letter.error
    assert len(run.seen("s1").data) == 2


def test_attributes_of_a_cloudevent_reach_the_node() -> None:
    found: list[CloudEvent | None] = []
    workflow = Workflow("attributes")
    readings = workflow.source(KafkaSource("t", Reading, key="sensor", format="cloudevents"))
    others = workflow.source(KafkaSource("plain", Reading, key="sensor"))

    def look(event: Event[Reading], ctx: Context) -> None:
        found.append(event.cloudevent)

    looking = workflow.node(look)
    readings.to(looking)
    others.to(looking)

    with Harness(workflow) as harness:
        value = structured(subject="s1", tenant="a", datacontenttype="application/json")
        harness.send_raw(readings, value, key="s1", headers={"content-type": "application/cloudevents+json"})
        harness.send(others, READING)

    assert found == [
        CloudEvent(
            id="7", source="/s", type="read", subject="s1", extensions={"tenant": "a"},
            datacontenttype="application/json",
        ),
        None,
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["json", "msgpack", "cloudevents"])
def test_the_kit_sends_in_the_format_of_the_source(outcome: Make, format: Any) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format=format))

    run.harness.send(run.source, READING, headers={"a": "1"})

    assert run.seen("s1").data == [repr(READING)]
    assert run.seen("s1").headers[0]["a"] == "1"


def test_the_kit_sends_past_a_decoder(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", decoder=Backwards()))

    run.harness.send(run.source, READING)

    assert run.seen("s1").data == [repr(READING)]


# Tombstones


@pytest.mark.parametrize("format", ["json", "msgpack", "cloudevents"])
def test_tombstones_are_skipped_where_that_is_asked_for(outcome: Make, format: Any) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format=format, tombstones="skip"))
    with run.harness.batch():
        run.raw(None, "s1")
        run.harness.send(run.source, READING)
        run.raw(None, None)

    assert run.letters() == []
    assert run.seen("s1").data == [repr(READING)]


@pytest.mark.parametrize("format", ["json", "msgpack", "cloudevents"])
def test_a_tombstone_is_delivered_to_the_run_of_its_own_key(outcome: Make, format: Any) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", format=format, tombstones="deliver"))
    with run.harness.batch():
        run.harness.send(run.source, READING)
        run.raw(None, "s1")
        run.raw(None, None)
        run.raw(None, "s1", refuse=b"yes")
        run.raw(b"", "s1", refuse=b"yes")

    assert run.seen("s1").data == [repr(READING), "Tombstone()"]
    letters = {(letter.reason, letter.data) for letter in run.letters() if letter.key}
    assert letters == {("decode", b""), ("reject", None)}
    assert [letter.reason for letter in run.letters() if not letter.key] == ["key"]


def test_a_tombstone_can_be_sent_by_the_kit(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", tombstones="deliver"))

    run.harness.send(run.source, Tombstone(), key="s1")

    assert run.seen("s1").data == ["Tombstone()"]


# Keys and times


@pytest.mark.parametrize("format", ["json", "msgpack"])
@pytest.mark.parametrize(("key", "run_key"), [("place.room_id", "hall"), (lambda data: data.place.room_id, "hall")])
def test_keys_of_nested_fields(outcome: Make, format: Any, key: Any, run_key: str) -> None:
    run = outcome(KafkaSource("t", Reading, key=key, format=format))

    run.harness.send(run.source, READING)

    assert run.seen(run_key).data == [repr(READING)]


def test_a_nested_field_may_have_a_default_or_be_part_of_a_dict(outcome: Make) -> None:
    defaulted = outcome(KafkaSource("t", Reading, key="place.room_id"))
    loose = outcome(KafkaSource("t", dict[str, Any], key="order.id"))

    defaulted.raw(b'{"sensor":"s1"}', "hall")
    loose.raw(b'{"order":{"id":"o1"}}', "o1")
    loose.raw(b'{"order":{}}', "o1")
    loose.raw(b'{"order":3}', "o1")

    assert defaulted.seen("hall").data == [
        "Reading(sensor='s1', celsius=0.0, at=" + repr(NOON) + ", place=" + repr(Place("hall")) + ")"
    ]
    assert loose.seen("o1").data == ["{'order': {'id': 'o1'}}"]
    assert loose.reasons() == ["key", "key"]


@pytest.mark.parametrize(
    ("key", "message"),
    [("plce", "Reading has no field 'plce'"), ("place.room", "Place has no field 'room'"), ("sensor.x", "str has no")],
)
def test_a_field_that_is_not_there_is_refused_by_the_build(key: str, message: str) -> None:
    for option in ({"key": key}, {"key": "sensor", "time": key}):
        workflow = Workflow("wrong")
        workflow.source(unchecked("t", Reading, **option)).to(None)

        with pytest.raises(WorkflowError, match=message):
            workflow.compile()


@pytest.mark.parametrize("format", ["json", "msgpack"])
@pytest.mark.parametrize("time", ["at", lambda data: data.at, lambda data: round(data.at.timestamp() * 1000)])
def test_the_time_may_be_taken_from_the_data(outcome: Make, format: Any, time: Any) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", time=time, format=format))
    at = datetime(2026, 5, 5, 5, tzinfo=timezone(timedelta(hours=2)))

    run.harness.send(run.source, Reading("s1", at=at))

    assert run.seen("s1").times == [at]


@pytest.mark.parametrize(
    "bad",
    [datetime(2026, 1, 1), datetime(1960, 1, 1, tzinfo=UTC), -1, 1 << 60, True, 1.5, "soon", None],  # noqa: DTZ001
)
def test_what_is_no_time_is_a_dead_letter(outcome: Make, bad: Any) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor", time=lambda data: bad if data.celsius else data.at))
    with run.harness.batch():
        run.harness.send(run.source, Reading("s1"))
        run.harness.send(run.source, Reading("s1", 1))
        run.harness.send(run.source, Reading("s1"))

    assert run.reasons() == ["time"]
    assert len(run.seen("s1").data) == 2


def test_headers_are_text_and_what_is_no_utf_8_is_replaced(outcome: Make) -> None:
    run = outcome(KafkaSource("t", Reading, key="sensor"))

    run.raw(msgspec.json.encode(READING), "s1", good="é", bad=b"\xff")

    assert run.seen("s1").headers == [{"good": "é", "bad": "�"}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: unchecked("t", Reading, key="sensor", format="xml"), "there is no format 'xml'"),
        (lambda: unchecked("t", Reading, key="sensor", format="raw"), "format='raw' is for bytes and str"),
        (
            lambda: unchecked("t", Reading, key="sensor", format="msgpack", decoder=Backwards()),
            "both format='msgpack' and decoder=",
        ),
        (lambda: unchecked("t", Reading, key="sensor", tombstones="keep"), "tombstones='keep'"),
        (lambda: unchecked("t", Reading, key="sensor", time=3), "time=3 is neither a field nor a function"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_the_build(source: Any, message: str) -> None:
    workflow = Workflow("wrong")
    workflow.source(source()).to(None)

    with pytest.raises(WorkflowError, match=message):
        workflow.compile()


# Wire formats: any data come back equal, and any bytes whatever are an event or a dead letter


class Anything(msgspec.Struct, frozen=True):
    text: str
    number: int
    real: float
    some: bytes
    maybe: int | None
    at: datetime
    many: list[str]
    by_name: dict[str, int]


TIMES = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ANYTHING = st.builds(
    Anything, text=st.text(), number=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
    some=st.binary(), maybe=st.none() | st.integers(0, 9), at=TIMES, many=st.lists(st.text(), max_size=3),
    by_name=st.dictionaries(st.text(), st.integers(0, 9), max_size=3),
)  # fmt: skip


@given(ANYTHING)
def test_any_data_come_back_equal_by_msgpack(data: Anything) -> None:
    unpacker = unpacker_of("msgpack", Anything, None)
    assert unpacker is not None

    unpacked = unpacker.unpack(Records(0, "t/0", [0], [0], [None], [msgspec.msgpack.encode(data)], "1"))

    assert unpacked.data == [data]
    assert msgspec.json.decode(unpacked.values[0] or b"", type=Anything) == data


@given(st.lists(st.binary() | st.none(), max_size=5), st.sampled_from(["msgpack", "raw", "cloudevents"]), st.booleans())
def test_any_bytes_are_an_event_or_bad_and_never_an_error(
    values: list[bytes | None], format: str, with_headers: bool
) -> None:
    unpacker = unpacker_of(format, str, None)
    assert unpacker is not None
    count = len(values)
    headers: list[Headers] | None = [(("ce_specversion", b"1.0"), ("ce_id", b"\xff"))] * count if with_headers else None
    records = Records(0, "t/0", list(range(count)), [0] * count, [None] * count, list(values), str(count), headers)

    unpacked = unpacker.unpack(records)

    bad = unpacked.faults or {}
    for index, value in enumerate(values):
        text = unpacked.values[index]
        assert (text is None) == (value is None or index in bad)
        if text is not None and format != "cloudevents":
            json.loads(text)
    assert unpacked.original is records


def test_other_processes_find_a_nested_key_as_json_names_it() -> None:
    workflow = Workflow("described")
    requests = workflow.source(RequestSource(Reading, key="place.room_id"))
    loose = workflow.source(ChannelSource(dict, capacity=1, key="a.b", name="loose"))
    requests.to(workflow.node(See()))
    loose.to(None)

    described = descriptor_of(workflow.compile(), 4)

    assert [source.key for source in described.sources] == ["place.roomId", "a.b"]


async def test_a_channels_sender_finds_a_nested_key() -> None:
    sender: ChannelSender[Any] = ChannelSender("redis://x", "w", "c", partitions=4, capacity=1, key="place.room_id")

    assert sender._key_of(READING) == "hall"
    assert sender._key_of({"place": {"room_id": "cellar"}}) == "cellar"
