"""Avro by a schema registry: `KafkaSource("t", T, decoder=AvroDecoder(T, registry))`, and the other way round.

`pip install "headrace[avro]"`.
"""

from __future__ import annotations

import datetime
import decimal
import importlib
import io
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final, Generic

import msgspec
from typing_extensions import TypeVar

from headrace.registry import HEAD_BYTES, ExtraMissing, SchemaRegistry, WireFormatError, head_of, schema_id_of
from headrace.sources.own_formats import Decoder, Encoder, KafkaRecord

D = TypeVar("D")

_NATIVE: Final = (bytes, datetime.datetime, datetime.date, datetime.time, decimal.Decimal, uuid.UUID)
"""What fastavro takes and gives by itself, for Avro's logical types."""


class AvroDecoder(Decoder[D], Generic[D]):
    """Reads Avro by the schema that each value was written by, and makes your type of it.

    Args:
        type: Of the data. Field names are Avro's; what the type does not have is left out.
        registry: Where the schemas are.
        reader_schema: Resolve to this schema (Avro's rules: defaults, aliases, promotions), not only by the writer's.
    """

    def __init__(
        self, type: type[D], registry: SchemaRegistry, *, reader_schema: str | Mapping[str, Any] | None = None
    ) -> None:
        self._type = type
        self._registry = registry
        self._reader = _parsed(reader_schema)
        self._writers: dict[int, Any] = {}

    async def open(self) -> None:
        """Load Avro; a schema is fetched when a value of it comes."""
        self._avro = _fastavro()
        self._registry.open("avro")
        if self._reader is not None:
            self._reader = self._avro.parse_schema(self._reader)

    async def close(self) -> None:
        """Disconnect."""
        self._registry.close()

    def decode(self, record: KafkaRecord) -> D:
        """See `Decoder.decode`."""
        schema_id = schema_id_of(record.value)
        writer = self._writers.get(schema_id)
        if writer is None:
            writer = self._writers[schema_id] = self._fetched(schema_id)
        payload = io.BytesIO(record.value)
        payload.seek(HEAD_BYTES)
        try:
            value = self._avro.schemaless_reader(payload, writer, self._reader)
        except EOFError as error:
            raise WireFormatError(f"the value ends too early for schema {schema_id}") from error
        if payload.tell() != len(record.value):
            left = len(record.value) - payload.tell()
            raise WireFormatError(f"{left} bytes are left over after schema {schema_id} is read")
        return msgspec.convert(value, self._type)

    def _fetched(self, schema_id: int) -> Any:
        schema = self._registry.schema(schema_id)
        if (schema.schema_type or "AVRO") != "AVRO":
            raise WireFormatError(f"schema {schema_id} is {schema.schema_type}, not Avro")
        named: dict[str, Any] = {}
        self._references(schema, named)
        return self._avro.parse_schema(json.loads(schema.schema_str), named_schemas=named)

    def _references(self, schema: Any, named: dict[str, Any]) -> None:
        """Schemas that one refers to by name, which lie under subjects of their own."""
        for reference in schema.references or ():
            found = self._registry.version(reference.subject, reference.version)
            self._references(found, named)
            self._avro.parse_schema(json.loads(found.schema_str), named_schemas=named)


class AvroEncoder(Encoder[D], Generic[D]):
    """Writes Avro, with the id that the registry gives to the schema.

    Args:
        type: Of the data.
        registry: Where the schema is, or is to be.
        schema: Avro schema, as text or as the object that it is.
        subject: Under which it is registered; the usual one for values of a topic is `<topic>-value`.
        register: Register it if it is not there; False: it has to be.
    """

    def __init__(
        self,
        type: type[D],
        registry: SchemaRegistry,
        *,
        schema: str | Mapping[str, Any],
        subject: str,
        register: bool = True,
    ) -> None:
        del type  # for checkers: what is encoded is the sink's
        self._registry = registry
        self._text = schema if isinstance(schema, str) else json.dumps(schema)
        self._subject = subject
        self._register = register

    async def open(self) -> None:
        """Learn the schema's id."""
        self._avro = _fastavro()
        self._registry.open("avro")
        from confluent_kafka.schema_registry import Schema  # noqa: PLC0415  a second to import, and optional

        self._schema = self._avro.parse_schema(json.loads(self._text))
        schema = Schema(self._text, "AVRO")
        self._head = head_of(self._registry.id_of(self._subject, schema, register=self._register))

    async def close(self) -> None:
        """Disconnect."""
        self._registry.close()

    def encode(self, data: D) -> bytes:
        """See `Encoder.encode`."""
        payload = io.BytesIO()
        payload.write(self._head)
        self._avro.schemaless_writer(payload, self._schema, msgspec.to_builtins(data, builtin_types=_NATIVE))
        return payload.getvalue()


def _fastavro() -> Any:
    try:
        return importlib.import_module("fastavro")
    except ImportError as error:
        raise ExtraMissing("avro", str(error)) from error


def _parsed(schema: str | Mapping[str, Any] | None) -> Any:
    return json.loads(schema) if isinstance(schema, str) else schema
