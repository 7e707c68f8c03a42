"""Data and state as JSON text: strict, fast, and refusing what would not come back equal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Union, get_args, get_origin

import msgspec
import msgspec.inspect as inspection

from headrace.workflows.actions import Tombstone
from headrace.workflows.errors import CodecError
from headrace.workflows.hints import alternatives

TOMBSTONE: Final = b""
"""A `Tombstone` as it travels: no JSON text is empty."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class JsonCodec:
    """Codec of one type of data.

    Functions, not methods: `decode` is msgspec's own, called once per event.
    """

    decode: Callable[[bytes], Any]
    """Bytes to value. Raises msgspec's errors as they are; `CodecError.of` makes ours of them."""
    encode: Callable[[Any], bytes]
    """Value to bytes. Raises `CodecError`, for a NaN or an infinity with its path."""
    quick: Quick | None = None
    """See `Quick`."""


@dataclass(frozen=True, slots=True)
class Quick:
    """The same encoding without what is seldom needed, for loops that every event goes through."""

    encode: Callable[[Any], bytes]
    """msgspec's own. If it raises, the codec's `encode` says why."""
    check: Callable[[Any], None] | None = None
    """To be called for a value whose text has `null` in it, which may stand for a NaN or an infinity. Raises
    `CodecError`. None: it stands for nothing else."""


@dataclass(frozen=True, slots=True)
class JsonStateCodec:
    """Codec of one type of state; `new` makes a fresh one."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    new: Callable[[], Any]
    quick: Quick | None = None


def json_codec(data_type: Any) -> JsonCodec:
    """The codec of `data_type`.

    Raises:
        CodecError: msgspec can't decode such a type; says which part.
    """
    rest = without_tombstone(data_type)
    if rest is data_type:
        return JsonCodec(_decoder(data_type), *_encoder(data_type))
    if rest is None:
        return JsonCodec(lambda _: Tombstone(), lambda _: TOMBSTONE)
    decode, (encode, _) = _decoder(rest), _encoder(rest)
    return JsonCodec(
        lambda blob: decode(blob) if blob else Tombstone(),
        lambda value: TOMBSTONE if value.__class__ is Tombstone else encode(value),
    )


def without_tombstone(data_type: Any) -> Any:
    """The type without `Tombstone`: itself where that is no member, None where it is all."""
    parts = alternatives(data_type)
    rest = [part for part in parts if part is not Tombstone]
    if len(rest) == len(parts):
        return data_type
    return Union[tuple(rest)] if rest else None  # noqa: UP007  from a list of types


def state_codec(state_type: Any) -> JsonStateCodec:
    """The codec of a node's or a run's state.

    Raises:
        CodecError: It can't be made without arguments, can't be decoded, or doesn't come back equal when fresh.
    """
    new = constructor(state_type)
    if new is None:
        raise CodecError(f"{type_name(state_type)} can't be made without arguments")
    decode, (encode, quick) = _decoder(state_type), _encoder(state_type)
    try:
        fresh = new()
    except Exception as error:
        raise CodecError(f"{type_name(state_type)} can't be made without arguments: {error}") from error
    try:
        back = decode(encode(fresh))
    except msgspec.MsgspecError as error:
        raise CodecError(f"a fresh {type_name(state_type)} can't be read again: {error}") from error
    compares = fresh.__class__.__dict__.get("__eq__") is not None or isinstance(fresh, msgspec.Struct)
    if compares and back != fresh:
        raise CodecError(f"a fresh {type_name(state_type)} comes back changed: {fresh!r} as {back!r}")
    return JsonStateCodec(decode, encode, new, quick)


def encode_json(value: object) -> bytes:
    """JSON text of a value of any type.

    Raises:
        CodecError: JSON can't carry it; names the field of a NaN or an infinity.
    """
    return _checked(value, always=False)


def has_any(data_type: Any) -> bool:
    """Whether a value of the type may hold what only `Any` describes: another format may have more than JSON there."""
    return _has_any(inspection.type_info(data_type), set())


def _has_any(info: inspection.Type, seen: set[Any]) -> bool:
    if isinstance(info, (inspection.AnyType, inspection.CustomType, inspection.RawType)):
        return True
    return _enter(info, seen) and any(_has_any(part, seen) for _, part in _parts(info))


def type_name(data_type: Any) -> str:
    """How a user would write the type: `Reading`, `dict[str, int]`."""
    if get_origin(data_type) is None and isinstance(data_type, type):
        return data_type.__qualname__.rpartition("<locals>.")[2]
    return str(data_type).replace("typing.", "")


def constructor(state_type: Any) -> Callable[[], Any] | None:
    """What makes a fresh value of the type; None if nothing does (a union without None, a Literal ...)."""
    if state_type is None or state_type is type(None) or type(None) in get_args(state_type):
        return lambda: None
    made = get_origin(state_type) or state_type
    return made if isinstance(made, type) else None


def _decoder(data_type: Any) -> Callable[[bytes], Any]:
    try:
        custom = next(_customs(inspection.type_info(data_type), "$", set()), None)
        if custom is None:
            return msgspec.json.Decoder(data_type).decode
    except (TypeError, NameError) as error:
        raise CodecError(str(error)) from error
    path, cls = custom
    raise CodecError(f"msgspec can't decode `{cls}`", path)


def _encoder(data_type: Any) -> tuple[Callable[[Any], bytes], Quick | None]:
    floats, float_keys = _floats(inspection.type_info(data_type), set())
    if float_keys:
        return lambda value: _checked(value, always=True), None
    if floats:
        return _encode_floats, Quick(_encode, _refuse_non_finite)
    return _encode_exact, Quick(_encode)


def _encode_exact(value: Any) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError.of(error) from error


def _encode_floats(value: Any) -> bytes:
    try:
        blob = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError.of(error) from error
    # msgspec writes `null` for what JSON has no word for; only then it is worth looking.
    # (`find` takes half the time of `in`, which asks for a buffer first.)
    if blob.find(b"null") >= 0:
        _refuse_non_finite(value)
    return blob


def _checked(value: Any, *, always: bool) -> bytes:
    blob = _encode_floats(value)
    if always:
        _refuse_non_finite(value)
    return blob


def _refuse_non_finite(value: Any) -> None:
    found = next(_non_finite(value, "$"), None)
    if found is not None:
        path, number = found
        raise CodecError(f"JSON can't carry {number!r}", path)


def _non_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Places of NaNs and infinities, with paths as msgspec writes them."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path, value
    else:
        for step, item in _children(value):
            yield from _non_finite(item, path + step)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, each with its step in a path."""
    if isinstance(value, msgspec.Struct):
        for name, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            yield f".{encoded}", getattr(value, name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield "[...]", key
            yield f".{key}" if isinstance(key, str) else f"[{key!r}]", item
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, AbstractSet):
        yield from (("[...]", item) for item in value)
    elif dataclasses.is_dataclass(value):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        names = [attribute.name for attribute in getattr(type(value), "__attrs_attrs__", ())]
        yield from ((f".{name}", getattr(value, name)) for name in names)


def _parts(info: inspection.Type) -> Iterator[tuple[str, inspection.Type]]:
    """Types that a type is made of, each with its step in a path."""
    if isinstance(info, inspection.UnionType):
        yield from (("", part) for part in info.types)
    elif isinstance(info, inspection.Metadata):
        yield "", info.type
    elif isinstance(info, inspection.DictType):
        yield "[...]", info.key_type
        yield "[...]", info.value_type
    elif isinstance(info, inspection.TupleType):
        yield from ((f"[{index}]", part) for index, part in enumerate(info.item_types))
    else:
        yield from ((f".{field.encode_name}", field.type) for field in getattr(info, "fields", ()))
        yield from (("[...]", part) for part in [getattr(info, "item_type", None)] if part is not None)


def _customs(info: inspection.Type, path: str, seen: set[Any]) -> Iterator[tuple[str, str]]:
    """Places of classes that msgspec knows nothing of."""
    if isinstance(info, inspection.CustomType):
        yield path, type_name(info.cls)
    elif _enter(info, seen):
        for step, part in _parts(info):
            yield from _customs(part, path + step, seen)


def _floats(info: inspection.Type, seen: set[Any]) -> tuple[bool, bool]:
    """Whether a float can occur in values of the type, and whether as a key of a dict."""
    if isinstance(info, (inspection.FloatType, inspection.AnyType, inspection.CustomType)):
        return True, False
    if not _enter(info, seen):
        return False, False
    floats = keys = False
    if isinstance(info, inspection.DictType):
        keys = _floats(info.key_type, seen)[0] and not isinstance(info.key_type, inspection.AnyType)
    for _, part in _parts(info):
        part_floats, part_keys = _floats(part, seen)
        floats, keys = floats or part_floats, keys or part_keys
    return floats, keys


def _enter(info: inspection.Type, seen: set[Any]) -> bool:
    """False at a class that is being looked at already: types may contain themselves."""
    cls = getattr(info, "cls", None)
    if cls is None:
        return True
    if cls in seen:
        return False
    seen.add(cls)
    return True
