"""Generated classes of `reading.proto`, built from their descriptors: no compiler is needed.

syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "place.proto";
message Other { string name = 1; }
message Reading {
enum Kind { UNKNOWN = 0; WARM = 1; }
message Note { string text = 1; }
string sensor = 1;  double celsius = 2;  int64 number = 3;  repeated string tags = 4;  Place place = 5;
repeated Note notes = 6;  bytes some = 7;  google.protobuf.Timestamp at = 8;  Kind kind = 9;
map<string, int32> counts = 10;  optional string maybe = 11;  google.protobuf.Duration took = 12;
}
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2

assert timestamp_pb2 and duration_pb2, "imported by the file below"
_F = descriptor_pb2.FieldDescriptorProto


def _field(message: Any, name: str, number: int, kind: int, type_name: str = "", *, many: bool = False) -> Any:
    label = _F.LABEL_REPEATED if many else _F.LABEL_OPTIONAL
    return message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name or None)


def _place() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="place.proto", package="test", syntax="proto3")
    _field(file.message_type.add(name="Place"), "room", 1, _F.TYPE_STRING)
    return file


def _reading() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="reading.proto", package="test", syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "place.proto"],
    )  # fmt: skip
    _field(file.message_type.add(name="Other"), "name", 1, _F.TYPE_STRING)
    reading = file.message_type.add(name="Reading")
    kind = reading.enum_type.add(name="Kind")
    kind.value.add(name="UNKNOWN", number=0)
    kind.value.add(name="WARM", number=1)
    _field(reading.nested_type.add(name="Note"), "text", 1, _F.TYPE_STRING)
    entry = reading.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, _F.TYPE_STRING)
    _field(entry, "value", 2, _F.TYPE_INT32)
    _field(reading, "sensor", 1, _F.TYPE_STRING)
    _field(reading, "celsius", 2, _F.TYPE_DOUBLE)
    _field(reading, "number", 3, _F.TYPE_INT64)
    _field(reading, "tags", 4, _F.TYPE_STRING, many=True)
    _field(reading, "place", 5, _F.TYPE_MESSAGE, ".test.Place")
    _field(reading, "notes", 6, _F.TYPE_MESSAGE, ".test.Reading.Note", many=True)
    _field(reading, "some", 7, _F.TYPE_BYTES)
    _field(reading, "at", 8, _F.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    _field(reading, "kind", 9, _F.TYPE_ENUM, ".test.Reading.Kind")
    _field(reading, "counts", 10, _F.TYPE_MESSAGE, ".test.Reading.CountsEntry", many=True)
    maybe = _field(reading, "maybe", 11, _F.TYPE_STRING)
    maybe.proto3_optional, maybe.oneof_index = True, 0
    reading.oneof_decl.add(name="_maybe")
    _field(reading, "took", 12, _F.TYPE_MESSAGE, ".google.protobuf.Duration")
    return file


_pool = descriptor_pool.Default()
for _file in (_place(), _reading()):
    _pool.AddSerializedFile(_file.SerializeToString())  # type: ignore[no-untyped-call]


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))  # type: ignore[no-untyped-call]


Place, Other, ReadingMessage, Note = map(_class, ("test.Place", "test.Other", "test.Reading", "test.Reading.Note"))
