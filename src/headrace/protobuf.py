"""Protobuf by a schema registry: `KafkaSource("t", T, decoder=ProtobufDecoder(T, Message, registry))`, and back.

`pip install "headrace[protobuf]"`. Messages are classes that `protoc` has generated.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic

import msgspec
from typing_extensions import TypeVar

from headrace.registry import HEAD_BYTES, ExtraMissing, SchemaRegistry, WireFormatError, head_of, schema_id_of
from headrace.sources.own_formats import Decoder, Encoder, KafkaRecord

if TYPE_CHECKING:
    from google.protobuf.message import Message

D = TypeVar("D")
M = TypeVar("M", bound="Message")

_NATIVE: Final = (bytes, datetime.datetime, datetime.timedelta)
_GOOGLE: Final = "google/protobuf/"
_MOST_INDEXES: Final = 32
"""Depth of nested messages beyond which an index list is taken for damage."""


class ProtobufDecoder(Decoder[D], Generic[D]):
    """Reads messages of one class, and makes your type of them.

    A value says which message of its schema's file it is; one that is another than `message` is a dead letter, as
    its bytes might well be read as `message`, and mean nothing.

    Args:
        type: Of the data.
        message: Generated class of what the topic has.
        registry: Where the schemas are.
        convert: Makes the data of a message; None: field by field, by name. A field that is not set is left to the
            type's default; enums come by name, `Timestamp` and `Duration` as `datetime` (UTC) and `timedelta`.
    """

    def __init__(
        self, type: type[D], message: type[M], registry: SchemaRegistry, *, convert: Callable[[M], D] | None = None
    ) -> None:
        self._type = type
        self._message: Any = message
        self._registry = registry
        self._convert: Callable[[Any], Any] | None = convert
        self._names: dict[tuple[int, Sequence[int]], str] = {}

    async def open(self) -> None:
        """Load the registry's client; a schema is fetched when a value of it comes."""
        self._registry.open("protobuf")

    async def close(self) -> None:
        """Disconnect."""
        self._registry.close()

    def decode(self, record: KafkaRecord) -> D:
        """See `Decoder.decode`."""
        schema_id = schema_id_of(record.value)
        indexes, start = read_indexes(record.value, HEAD_BYTES)
        name = self._names.get((schema_id, indexes))
        if name is None:
            name = self._names[schema_id, indexes] = self._name_of(schema_id, indexes)
        if name != self._message.DESCRIPTOR.full_name:
            raise WireFormatError(f"it is a {name}, not a {self._message.DESCRIPTOR.full_name}")
        message = self._message.FromString(record.value[start:])
        if self._convert is not None:
            data: D = self._convert(message)
            return data
        return msgspec.convert(plain(message), self._type)

    def _name_of(self, schema_id: int, indexes: Sequence[int]) -> str:
        """Full name of the message at these indexes of a schema's file."""
        from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415  optional

        schema = self._registry.schema(schema_id, fmt="serialized")
        if schema.schema_type != "PROTOBUF":
            raise WireFormatError(f"schema {schema_id} is {schema.schema_type or 'Avro'}, not Protobuf")
        file = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str))
        names = [file.package] if file.package else []
        messages = file.message_type
        for index in indexes:
            if index >= len(messages):
                raise WireFormatError(f"schema {schema_id} has no message {list(indexes)}")
            names.append(messages[index].name)
            messages = messages[index].nested_type
        return ".".join(names)


class ProtobufEncoder(Encoder[D], Generic[D]):
    """Writes messages of one class, with the id that the registry gives to its file.

    Args:
        type: Of the data.
        message: Generated class.
        registry: Where the schema is, or is to be.
        subject: Under which it is registered; the usual one for values of a topic is `<topic>-value`.
        register: Register it, and the files that it imports, if they are not there; False: they have to be.
        convert: Makes the message of the data; None: field by field, by name.
    """

    def __init__(
        self,
        type: type[D],
        message: type[M],
        registry: SchemaRegistry,
        *,
        subject: str,
        register: bool = True,
        convert: Callable[[D], M] | None = None,
    ) -> None:
        del type  # for checkers: what is encoded is the sink's
        self._message: Any = message
        self._registry = registry
        self._subject = subject
        self._register = register
        self._convert: Callable[[D], Any] | None = convert

    async def open(self) -> None:
        """Learn the schema's id."""
        self._registry.open("protobuf")
        descriptor = self._message.DESCRIPTOR
        schema_id = self._registry.id_of(self._subject, self._schema(descriptor.file), register=self._register)
        self._head = head_of(schema_id) + written_indexes(indexes_of(descriptor))

    async def close(self) -> None:
        """Disconnect."""
        self._registry.close()

    def encode(self, data: D) -> bytes:
        """See `Encoder.encode`."""
        if self._convert is not None:
            message = self._convert(data)
        else:
            message = self._message(**msgspec.to_builtins(data, builtin_types=_NATIVE))
        body: bytes = message.SerializeToString(deterministic=True)
        return self._head + body

    def _schema(self, file: Any) -> Any:
        """A file as the registry wants it, with references to those it imports."""
        try:
            from confluent_kafka.schema_registry import Schema, SchemaReference  # noqa: PLC0415  see `avro`
        except ImportError as error:
            raise ExtraMissing("protobuf", str(error)) from error

        references = []
        for imported in file.dependencies:
            if not imported.name.startswith(_GOOGLE):
                self._registry.id_of(imported.name, self._schema(imported), register=self._register)
                version = self._registry.latest_version(imported.name)
                references.append(SchemaReference(imported.name, imported.name, version))
        return Schema(base64.b64encode(file.serialized_pb).decode(), "PROTOBUF", references)


def plain(message: Any) -> dict[str, Any]:
    """A message as a dict of what is set in it."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = field.name
        value = getattr(message, name)
        if field.is_repeated:
            found[name] = _map(field, value) if _is_map(field) else [_value(field, item) for item in value]
        elif not field.has_presence or message.HasField(name):
            found[name] = _value(field, value)
    return found


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _map(field: Any, value: Any) -> dict[Any, Any]:
    of = field.message_type.fields_by_name["value"]
    return {key: _value(of, item) for key, item in value.items()}


def _value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.message_type is None:
        return value
    match field.message_type.full_name:
        case "google.protobuf.Timestamp":
            return value.ToDatetime(tzinfo=datetime.UTC)
        case "google.protobuf.Duration":
            return value.ToTimedelta()
    return plain(value)


def indexes_of(descriptor: Any) -> tuple[int, ...]:
    """Where a message stands in its file: index among the file's messages, then among each one's nested ones."""
    outer = descriptor.containing_type
    if outer is None:
        return (list(descriptor.file.message_types_by_name).index(descriptor.name),)
    return (*indexes_of(outer), [nested.name for nested in outer.nested_types].index(descriptor.name))


def written_indexes(indexes: Sequence[int]) -> bytes:
    """Indexes as a value has them: their number and themselves, as zigzag varints; a single 0 for the first message."""
    if tuple(indexes) == (0,):
        return b"\0"
    return b"".join(_varint(number * 2) for number in (len(indexes), *indexes))


def read_indexes(value: bytes, start: int) -> tuple[tuple[int, ...], int]:
    """What `written_indexes` wrote at `start`, and where the payload begins.

    Raises:
        WireFormatError: There are none.
    """
    count, at = _read_varint(value, start)
    if count == 0:
        return (0,), at
    if count > _MOST_INDEXES:
        raise WireFormatError(f"a list of {count} message indexes")
    indexes = []
    for _ in range(count):
        index, at = _read_varint(value, at)
        indexes.append(index)
    return tuple(indexes), at


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004  seven bits a byte
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_varint(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint that is not negative, and the place behind it."""
    number = shift = 0
    while True:
        if at >= len(value) or shift > 28:  # noqa: PLR2004  five bytes have 32 bits
            raise WireFormatError("its message indexes can't be read")
        byte = value[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the last byte
            break
    if number & 1:
        raise WireFormatError("its message indexes are negative")
    return number >> 1, at
