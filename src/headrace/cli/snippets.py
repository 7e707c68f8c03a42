"""Small programs that send an example to a source, written into `.headrace` by `dev`, ready to be run and changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from headrace.sources.kafka_connection import NamesClusters, connection_of
from headrace.workflows.plan import Plan, SourcePlan

_KAFKA: Final = '''"""Sends events to the topic {topic}: python {path} '{example}'"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaProducer

EXAMPLE = {example!r}


async def main() -> None:
    async with AIOKafkaProducer(bootstrap_servers={bootstrap!r}) as producer:
        for text in sys.argv[1:] or [EXAMPLE]:
            key = {key}
            sent = await producer.send_and_wait({topic!r}, text.encode(), key=key.encode())
            print("sent to", sent.topic, "partition", sent.partition, "offset", sent.offset)


asyncio.run(main())
'''


def write_senders(plan: Plan, clusters: NamesClusters, folder: Path) -> list[Path]:
    """Write a program for each Kafka source whose cluster asks for nothing but its address; returns their paths."""
    written = []
    for source in plan.sources:
        if source.source.kind != "kafka" or not isinstance(source.source.topic, str):
            continue
        connection = connection_of(source.source, clusters)
        if "security_protocol" not in connection.options:
            path = folder / f"send_{source.name}.py"
            path.write_text(_program(plan, source, connection.bootstrap, path))
            written.append(path)
    return written


def _program(plan: Plan, source: SourcePlan, bootstrap: str, path: Path) -> str:
    value = example_of(plan.types[source.type].type)
    if isinstance(source.key, str) and isinstance(value, dict):
        value.setdefault(source.key, "example")
    example = msgspec.json.encode(value).decode()
    key = f"str(json.loads(text)[{source.key!r}])" if isinstance(source.key, str) else '"example"'
    return _KAFKA.format(topic=source.source.topic, path=_short(path), example=example, bootstrap=bootstrap, key=key)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def example_of(type_: Any) -> Any:
    """Some value of a type, as JSON can carry it: 1 for numbers, "text" for text, defaults left out."""
    return _example(inspect.type_info(type_), 0)


_SIMPLE: Final[dict[type, Any]] = {
    inspect.StrType: "text", inspect.IntType: 1, inspect.FloatType: 1.0, inspect.BoolType: True,
    inspect.DateTimeType: "2026-01-01T12:00:00Z", inspect.DateType: "2026-01-01", inspect.TimeType: "12:00:00",
    inspect.TimeDeltaType: "PT1S", inspect.DecimalType: "1.0", inspect.BytesType: "",
    inspect.UUIDType: "00000000-0000-0000-0000-000000000001",
}  # fmt: skip
_DEEPEST: Final = 5


def _example(info: inspect.Type, depth: int) -> Any:
    if type(info) in _SIMPLE:
        return _SIMPLE[type(info)]
    value: Any = None
    if depth > _DEEPEST:
        return value
    match info:
        case (
            inspect.StructType(fields=fields)
            | inspect.DataclassType(fields=fields)
            | inspect.TypedDictType(fields=fields)
        ):
            value = {field.encode_name: _example(field.type, depth + 1) for field in fields if field.required}
            if isinstance(info, inspect.StructType) and info.tag_field is not None:
                value = {info.tag_field: info.tag} | value
        case inspect.UnionType(types=types):
            value = _example(types[0], depth + 1)
        case inspect.EnumType(cls=members):
            value = next(iter(members)).value
        case inspect.LiteralType(values=values):
            value = values[0]
        case inspect.CollectionType(item_type=item):
            value = [_example(item, depth + 1)]
        case inspect.TupleType(item_types=items):
            value = [_example(item, depth + 1) for item in items]
        case inspect.DictType(value_type=item):
            value = {"key": _example(item, depth + 1)}
    return value
