"""Fields of data by name, also nested ones (`order.id`): read from a value, or decoded without the rest of it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from headrace.workflows.hints import alternatives, is_typed_dict

_SCALARS = (str, int, float, bool, bytes)


class _Whole(Exception):
    """No part of such a type can be decoded by itself."""


def field_getter(path: str, data_type: Any) -> Callable[[Any], Any]:
    """A function that reads `path` from a value of the type; a step into a dict is an item, any other an attribute."""
    if _is_plain(data_type, path.split(".")):
        return attrgetter(path)
    return lambda data: field_of(data, path)


def field_of(data: Any, path: str) -> Any:
    """What stands at `path` in a value, whatever its type.

    Raises:
        AttributeError: An object has no such field.
        KeyError: A dict has no such item.
    """
    for name in path.split("."):
        data = data[name] if isinstance(data, dict) else getattr(data, name)
    return data


def encoded_path(data_type: Any, path: str) -> str:
    """A path as JSON has it: fields may have other names there (`rename=`)."""
    found: list[str] = []
    for name in path.split("."):
        encoded = name
        if isinstance(data_type, type) and issubclass(data_type, msgspec.Struct):
            encoded = next(row.encode_name for row in msgspec.structs.fields(data_type) if row.name == name)
        found.append(encoded)
        data_type = Any if fields_of(data_type) is None else _type_of(data_type, name)
    return ".".join(found)


def fields_of(data_type: Any) -> list[str] | None:
    """Names of a type's fields; None if that is not known."""
    if isinstance(data_type, type):
        if issubclass(data_type, msgspec.Struct):
            return list(data_type.__struct_fields__)
        if dataclasses.is_dataclass(data_type):
            return [field.name for field in dataclasses.fields(data_type)]
        if is_typed_dict(data_type):
            return list(data_type.__annotations__)
        if data_type in _SCALARS:
            return []
    return None


def missing_field(data_type: Any, path: str) -> tuple[Any, str, list[str]] | None:
    """Where a path leaves the type: (type without the field, its name, the fields that it has); None: nowhere."""
    for name in path.split("."):
        fields = fields_of(data_type)
        if fields is None:
            return None
        if name not in fields:
            return data_type, name, fields
        data_type = _type_of(data_type, name)
    return None


def part_decoder(data_type: Any, paths: Sequence[str]) -> Callable[[bytes], Any] | None:
    """A decoder of JSON text to an object with nothing but these fields; None if the type has to be decoded whole.

    What is not asked for is skipped, a third of the cost of making it.
    """
    try:
        part = _part(data_type, [path.split(".") for path in paths])
    except _Whole:
        return None
    return msgspec.json.Decoder(part).decode


def _part(data_type: Any, paths: Sequence[list[str]]) -> type[msgspec.Struct]:
    if not (isinstance(data_type, type) and issubclass(data_type, msgspec.Struct)):
        raise _Whole
    if data_type.__struct_config__.array_like:
        raise _Whole
    rows = {row.name: row for row in msgspec.structs.fields(data_type)}
    below: dict[str, list[list[str]]] = {}
    for name, *rest in paths:
        below.setdefault(name, []).append(rest)
    fields: list[Any] = []
    for name, rests in below.items():
        row = rows[name]
        wanted: Any = row.type
        if all(rests):
            wanted = _nested(row.type, rests)
        if row.required:
            fields.append((name, wanted))
        else:
            default = msgspec.field(default=row.default, default_factory=row.default_factory)  # type: ignore[call-overload]
            fields.append((name, wanted, default))
    names = {name: rows[name].encode_name for name in below}
    return msgspec.defstruct("Part", fields, rename=names, kw_only=True, gc=False)


def _nested(data_type: Any, paths: Sequence[list[str]]) -> Any:
    try:
        return _part(data_type, paths)
    except _Whole:
        return data_type


def _is_plain(data_type: Any, names: Sequence[str]) -> bool:
    """Every step is an attribute."""
    for name in names:
        if fields_of(data_type) is None or is_typed_dict(data_type):
            return False
        data_type = _type_of(data_type, name)
    return True


def _type_of(data_type: Any, name: str) -> Any:
    """Type of a field; of an optional one what it is otherwise. `Any` where that is not known."""
    if isinstance(data_type, type) and issubclass(data_type, msgspec.Struct):
        found = next(row.type for row in msgspec.structs.fields(data_type) if row.name == name)
    else:
        found = typing.get_type_hints(data_type).get(name, Any)
    known = [part for part in alternatives(found) if part is not type(None)]
    return known[0] if len(known) == 1 else Any
