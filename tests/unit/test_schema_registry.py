"""Avro and Protobuf by a schema registry: against Confluent's own serializers, over HTTP, and when it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from headrace import Context, Event, KafkaRecord, KafkaSink, KafkaSource, Unavailable, Workflow
from headrace.avro import AvroDecoder, AvroEncoder
from headrace.protobuf import ProtobufDecoder, ProtobufEncoder, read_indexes, written_indexes
from headrace.registry import SchemaRegistry, WireFormatError
from headrace.testing import Harness
from reading_messages import Note, Other, Place, ReadingMessage
from registry_double import RegistryDouble

VALUE = SerializationContext("readings", MessageField.VALUE)
AVRO = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "sensor", "type": "string"},
        {"name": "celsius", "type": "double"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "maybe", "type": ["null", "string"], "default": None},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "some", "type": "bytes"},
    ],
}


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float
    at: datetime
    day: date
    price: Decimal
    some: bytes
    tags: list[str] = []
    maybe: str | None = None


class Spot(msgspec.Struct, frozen=True):
    room: str


class Remark(msgspec.Struct, frozen=True):
    text: str


class Message(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float
    number: int
    at: datetime | None = None
    some: bytes = b""
    tags: list[str] = []
    place: Spot | None = None
    notes: list[Remark] = []
    kind: str = "UNKNOWN"
    counts: dict[str, int] = {}
    maybe: str | None = None
    took: timedelta | None = None


AT = datetime(2026, 5, 1, 9, 30, 0, 125_000, UTC)
READING = Reading("s1", 21.5, AT, date(2026, 5, 1), Decimal("12.50"), b"\x00\xff", ["a"], "m")
MESSAGE = Message(
    "s1", 21.5, 2**40, AT, b"\xff", ["a", "b"], Spot("hall"), [Remark("n")], "WARM", {"x": 3}, "m",
    timedelta(seconds=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def serving() -> Iterator[RegistryDouble]:
    """One server for all tests of the module."""
    with RegistryDouble() as double:
        yield double


@pytest.fixture
def double(serving: RegistryDouble) -> RegistryDouble:
    """The server, with what a test has changed put back."""
    serving.down, serving.login, serving.read_only = False, None, False
    serving.asked.clear()
    return serving


def record(value: bytes) -> KafkaRecord:
    return KafkaRecord(value=value, key=None, headers={}, topic="readings", time_ms=0)


def client(double: RegistryDouble) -> Any:
    return SchemaRegistryClient({"url": double.url})


async def avro(double: RegistryDouble, **options: Any) -> AvroDecoder[Reading]:
    decoder = AvroDecoder(Reading, SchemaRegistry(double.url), **options)
    await decoder.open()
    return decoder


async def protobuf(double: RegistryDouble) -> ProtobufDecoder[Message]:
    decoder = ProtobufDecoder(Message, ReadingMessage, SchemaRegistry(double.url))
    await decoder.open()
    return decoder


def written_avro(double: RegistryDouble, schema: Any = None, data: Any = None) -> bytes:
    serializer: Any = AvroSerializer(client(double), json.dumps(schema or AVRO))
    value: bytes = serializer(data or msgspec.structs.asdict(READING), VALUE)
    return value


def written_protobuf(double: RegistryDouble, message: Any) -> bytes:
    serializer: Any = ProtobufSerializer(type(message), client(double), {"use.deprecated.format": False})
    value: bytes = serializer(message, VALUE)
    return value


def message() -> Any:
    made = ReadingMessage(
        sensor="s1", celsius=21.5, number=2**40, tags=["a", "b"], place=Place(room="hall"), notes=[Note(text="n")],
        some=b"\xff", kind=1, counts={"x": 3}, maybe="m",
    )  # fmt: skip
    made.at.FromDatetime(AT)
    made.took.FromTimedelta(timedelta(seconds=2))
    return made


async def test_avro_that_confluents_serializer_writes_is_read(double: RegistryDouble) -> None:
    decoder = await avro(double)
    value = written_avro(double)
    double.asked.clear()

    assert [decoder.decode(record(value)) for _ in range(2)] == [READING, READING]
    assert len(double.asked) == 1, "a schema is asked for once"


async def test_confluents_deserializer_reads_the_avro_that_is_written(double: RegistryDouble) -> None:
    encoder = AvroEncoder(Reading, SchemaRegistry(double.url), schema=AVRO, subject="out-value")
    await encoder.open()

    value = encoder.encode(READING)

    deserializer: Any = AvroDeserializer(client(double))
    assert deserializer(value, VALUE) == msgspec.structs.asdict(READING)
    assert (await avro(double)).decode(record(value)) == READING


async def test_avro_schemas_that_refer_to_others(double: RegistryDouble) -> None:
    spot = {"type": "record", "name": "Spot", "fields": [{"name": "room", "type": "string"}]}
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "spot", "type": "Spot"}]}
    registry = client(double)
    registry.register_schema("spot", Schema(json.dumps(spot), "AVRO"))
    schema = Schema(json.dumps(outer), "AVRO", [SchemaReference("Spot", "spot", 1)])
    value = AvroSerializer(registry, schema)({"spot": {"room": "hall"}}, VALUE)  # type: ignore[call-arg, misc]
    decoder = AvroDecoder(dict[str, Spot], SchemaRegistry(double.url))
    await decoder.open()

    assert decoder.decode(record(value)) == {"spot": Spot("hall")}  # type: ignore[arg-type]


async def test_avro_is_resolved_to_a_readers_schema(double: RegistryDouble) -> None:
    reader = {**AVRO, "fields": [*AVRO["fields"][1:], {"name": "sensor", "type": "string", "aliases": ["device"]}]}
    writer = {**AVRO, "fields": [{"name": "device", "type": "string"}, *AVRO["fields"][1:]]}
    data = {
        "device": "s1",
        **{name: value for name, value in msgspec.structs.asdict(READING).items() if name != "sensor"},
    }
    decoder = await avro(double, reader_schema=json.dumps(reader))

    assert decoder.decode(record(written_avro(double, writer, data))) == READING


async def test_protobuf_that_confluents_serializer_writes_is_read(double: RegistryDouble) -> None:
    decoder = await protobuf(double)

    assert decoder.decode(record(written_protobuf(double, message()))) == MESSAGE
    assert decoder.decode(record(written_protobuf(double, ReadingMessage(sensor="s1")))) == Message("s1", 0.0, 0)


async def test_confluents_deserializer_reads_the_protobuf_that_is_written(double: RegistryDouble) -> None:
    encoder = ProtobufEncoder(Message, ReadingMessage, SchemaRegistry(double.url), subject="out-value")
    await encoder.open()

    value = encoder.encode(MESSAGE)

    deserializer: Any = ProtobufDeserializer(ReadingMessage, {"use.deprecated.format": False})
    assert deserializer(value, VALUE) == message()
    assert (await protobuf(double)).decode(record(value)) == MESSAGE


async def test_messages_and_data_may_be_converted_by_functions(double: RegistryDouble) -> None:
    registry = SchemaRegistry(double.url)
    encoder = ProtobufEncoder(str, Note, registry, subject="n", convert=lambda text: Note(text=text))
    decoder = ProtobufDecoder(str, Note, registry, convert=lambda note: note.text)
    await encoder.open()
    await decoder.open()

    assert decoder.decode(record(encoder.encode("hi"))) == "hi"


async def test_another_message_of_the_file_is_not_taken_for_the_one_that_is_wanted(double: RegistryDouble) -> None:
    value = written_protobuf(double, Other(name="s1"))
    decoder = await protobuf(double)

    with pytest.raises(WireFormatError, match=r"it is a test\.Other, not a test\.Reading"):
        decoder.decode(record(value))


@pytest.mark.parametrize("make", [avro, protobuf])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "too few"),
        (b"\0\0\0\0", "too few"),
        (b'{"sensor": "s1"}', "begins with byte 123"),
        (b"\0\xff\xff\xff\xff\x00", "Schema not found"),
    ],
)
async def test_what_is_not_in_the_registrys_format(double: RegistryDouble, make: Any, value: bytes, says: str) -> None:
    decoder = await make(double)

    for _ in range(2):
        with pytest.raises(WireFormatError):
            decoder.decode(record(value))
    with pytest.raises(WireFormatError, match=says.replace("Schema not found", "has no schema")):
        decoder.decode(record(value))
    assert len(double.asked) <= 1, "what the registry does not have is not asked for each time"


async def test_a_schema_of_the_other_kind(double: RegistryDouble) -> None:
    with pytest.raises(WireFormatError, match="not Avro"):
        (await avro(double)).decode(record(written_protobuf(double, message())))
    value = written_avro(double)
    with pytest.raises(WireFormatError, match="not Protobuf"):
        (await protobuf(double)).decode(record(value[:5] + b"\0" + value[5:]))


@pytest.mark.parametrize("cut", [5, 6, 12, -1])
async def test_a_value_that_is_cut_off_or_too_long(double: RegistryDouble, cut: int) -> None:
    decoder = await avro(double)
    value = written_avro(double)

    with pytest.raises(Exception):  # noqa: B017  whatever fastavro says to that
        decoder.decode(record(value[:cut]))
    with pytest.raises(WireFormatError, match="left over"):
        decoder.decode(record(value + b"x"))


@pytest.mark.parametrize("trouble", ["down", "nobody there", "login"])
@pytest.mark.parametrize("make", [avro, protobuf])
async def test_a_registry_that_is_away_is_no_fault_of_the_record(
    double: RegistryDouble, make: Any, trouble: str
) -> None:
    value = written_avro(double) if make is avro else written_protobuf(double, message())
    decoder = await make(double)
    if trouble == "nobody there":
        decoder._registry.url = "http://127.0.0.1:9"
        decoder._registry.close()
        decoder._registry.open("avro")
    double.down, double.login = trouble == "down", "me:secret" if trouble == "login" else None

    with pytest.raises(Unavailable, match="the schema registry at http"):
        decoder.decode(record(value))


async def test_who_may_not_register_needs_a_schema_that_is_there(double: RegistryDouble) -> None:
    double.read_only = True
    schema = {**AVRO, "name": "Fresh"}

    def encoder(register: bool) -> AvroEncoder[Reading]:
        return AvroEncoder(Reading, SchemaRegistry(double.url), schema=schema, subject="fresh", register=register)

    with pytest.raises(Unavailable, match="only read"):
        await encoder(True).open()
    with pytest.raises(WireFormatError, match="not found"):
        await encoder(False).open()
    double.register("fresh", {"schemaType": "AVRO", "schema": json.dumps(schema)})
    found = encoder(False)
    await found.open()
    assert found.encode(READING)[:1] == b"\0"


async def test_a_login_may_lie_in_the_environment(double: RegistryDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    value = written_avro(double)
    double.login = "me:secret"
    monkeypatch.setenv("REGISTRY_LOGIN", "me:secret")
    decoder = AvroDecoder(Reading, SchemaRegistry(double.url, {"basic.auth.user.info": "env:REGISTRY_LOGIN"}))
    await decoder.open()

    assert decoder.decode(record(value)) == READING
    assert "secret" not in repr(vars(decoder._registry)["_options"])


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=8))
def test_any_message_indexes_come_back(indexes: list[int]) -> None:
    written = written_indexes(indexes)

    assert read_indexes(b"head!" + written + b"rest", 5) == (tuple(indexes), 5 + len(written))


@given(st.binary(max_size=12))
def test_any_bytes_are_message_indexes_or_refused(value: bytes) -> None:
    try:
        indexes, at = read_indexes(value, 0)
    except WireFormatError:
        return
    assert 0 < at <= len(value)
    assert all(index >= 0 for index in indexes)


def test_from_a_source_to_a_sink(double: RegistryDouble) -> None:
    registry = SchemaRegistry(double.url)
    workflow = Workflow("registered")
    readings = workflow.source(KafkaSource("in", Reading, key="sensor", decoder=AvroDecoder(Reading, registry)))
    encoder = AvroEncoder(Reading, registry, schema=AVRO, subject="out-value")
    out = workflow.sink(KafkaSink("out", Reading, encoder=encoder))

    def same(event: Event[Reading], ctx: Context) -> Reading:
        return event.data

    node = workflow.node(same)
    readings.to(node)
    node.to(out)
    value = written_avro(double)

    with Harness(workflow) as harness:
        harness.send_raw(readings, value, key="s1")
        harness.send_raw(readings, value[:-1], key="s1")
        harness.send_raw(readings, b"\0\0\0\0\x63", key="s1")

        [message] = harness.messages(out)
        assert (message.data, message.value) == (READING, value)
        assert [letter.reason for letter in harness.dead_letters] == ["decode", "decode"]
