"""Whether values of a type can be shared between nodes without a copy."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import types
import typing
import uuid
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from typing_extensions import TypeAliasType

_SCALARS = frozenset(
    {
        str, int, float, bool, bytes, complex, type(None), decimal.Decimal, uuid.UUID,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    }
)  # fmt: skip
_CONTAINERS = frozenset({tuple, frozenset})


def deeply_immutable(data_type: Any) -> bool:
    """True if no value of the type, nor anything in it, can be changed.

    Scalars, enums, tuples and frozensets of such, frozen structs and frozen dataclasses of such. A class
    that is not final may have subclasses with more; the rule trusts the annotation.
    """
    return _immutable(data_type, set())


def _immutable(data_type: Any, seen: set[Any]) -> bool:
    if data_type is None or data_type in _SCALARS or data_type in seen:
        return True
    if isinstance(data_type, TypeAliasType):
        return _immutable(data_type.__value__, seen)
    origin = get_origin(data_type)
    if origin is typing.Annotated:
        return _immutable(get_args(data_type)[0], seen)
    if origin is typing.Literal:
        return True
    if origin is typing.Union or origin is types.UnionType or origin in _CONTAINERS:
        return all(part is Ellipsis or _immutable(part, seen) for part in get_args(data_type))
    cls = origin or data_type
    if not isinstance(cls, type):
        return False
    if issubclass(cls, Enum):
        return True
    return _frozen(cls) and _fields_immutable(data_type, cls, seen | {data_type})


def _frozen(cls: type) -> bool:
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_config__.frozen
    return dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _fields_immutable(data_type: Any, cls: type, seen: set[Any]) -> bool:
    if issubclass(cls, msgspec.Struct):
        hints = [field.type for field in msgspec.structs.fields(data_type)]
    else:
        hints = list(get_type_hints(cls, include_extras=True).values())
    return all(_immutable(hint, seen) for hint in hints)
