"""A first look at data by their JSON Schema: most are right, and that is seen sooner than by a validator.

Says only "all is right" or "not known": what it does not know, or what looks wrong, is for the validator, which also
says why. So it may leave out whatever is seldom used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Look: TypeAlias = Callable[[Any], bool]
"""True: the data are right. False: they are wrong, or it is not known."""

_ANNOTATIONS: Final = frozenset({
    "$comment", "$defs", "$schema", "default", "deprecated", "description", "discriminator", "examples", "title",
})  # fmt: skip
"""Keywords that ask for nothing."""
_DEFINITIONS: Final = "#/$defs/"


class _UnknownError(Exception):
    """The schema has something that is not known here."""


def quick_look(schema: Any) -> Look | None:
    """A look at data of this schema; None: it can't be had, as the schema has other keywords.

    Args:
        schema: JSON Schema, draft 2020-12, in which `integer` takes no 1.0, as a worker has it.

    Examples:
        >>> look = quick_look({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
        >>> look({"n": 1}), look({"n": 1.0}), look({})
        (True, False, False)
        >>> quick_look({"type": "string", "format": "date-time"}) is None
        True
    """
    try:
        look = _Compiled(schema).look(schema)
    except _UnknownError:
        return None

    def guarded(data: Any) -> bool:
        try:
            return look(data)
        except RecursionError:
            return False

    return guarded


class _Compiled:
    """Looks of one schema; definitions are made once, and may lead into themselves."""

    def __init__(self, root: Any) -> None:
        definitions = root.get("$defs") if isinstance(root, Mapping) else None
        self._definitions: Mapping[str, Any] = definitions if isinstance(definitions, Mapping) else {}
        self._made: dict[str, list[Look]] = {}

    def look(self, schema: Any) -> Look:
        """Of a part of the schema."""
        if schema is True:
            return _anything
        if not isinstance(schema, Mapping):
            raise _UnknownError
        looks = [self._keyword(name, schema) for name in schema if name not in _ANNOTATIONS]
        looks = [look for look in looks if look is not _anything]
        match looks:
            case []:
                return _anything
            case [only]:
                return only
            case _:
                return lambda data: all(look(data) for look in looks)

    def _keyword(self, name: str, schema: Mapping[str, Any]) -> Look:
        value = schema[name]
        match name:
            case "type":
                return _of_types(value if isinstance(value, list) else [value])
            case "properties" | "required" | "additionalProperties":
                return self._fields(schema) if name == min(_FIELDS & schema.keys()) else _anything
            case "items":
                each = self.look(value)
                return lambda data: not isinstance(data, list) or all(map(each, data))
            case "enum" | "const":
                return _one_of(value if name == "enum" else [value])
            case "anyOf":
                several = [self.look(each) for each in value]
                return lambda data: any(look(data) for look in several)
            case "$ref":
                return self._definition(value)
            case _:
                raise _UnknownError

    def _fields(self, schema: Mapping[str, Any]) -> Look:
        known = {name: self.look(each) for name, each in schema.get("properties", {}).items()}
        required = frozenset(schema.get("required", ()))
        more = schema.get("additionalProperties", True)
        others: Look | None = None if more is False else self.look(more)

        def look(data: Any) -> bool:
            if not isinstance(data, dict):
                return True
            if not required <= data.keys():
                return False
            for name, value in data.items():
                field = known.get(name, others)
                if field is None or not field(value):
                    return False
            return True

        return look

    def _definition(self, reference: Any) -> Look:
        name = str(reference).removeprefix(_DEFINITIONS)
        # A name with an escape, or a way on inside the definition, is none of these names.
        if not str(reference).startswith(_DEFINITIONS) or name not in self._definitions or set(name) & set("/~%"):
            raise _UnknownError
        if name not in self._made:
            self._made[name] = holder = list[Look]()
            holder.append(self.look(self._definitions[name]))
        found = self._made[name]
        return lambda data: found[0](data)  # noqa: PLW0108  it is not there yet, where a type has itself


_FIELDS: Final = frozenset({"properties", "required", "additionalProperties"})


def _anything(_: Any) -> bool:
    return True


def _of_types(names: list[Any]) -> Look:
    kinds: set[type] = set()
    for name in names:
        if name not in _TYPES:
            raise _UnknownError
        kinds |= _TYPES[name]
    return lambda data: type(data) in kinds


_TYPES: Final[dict[str, frozenset[type]]] = {
    "array": frozenset({list}), "boolean": frozenset({bool}), "integer": frozenset({int}),
    "null": frozenset({type(None)}), "number": frozenset({int, float}), "object": frozenset({dict}),
    "string": frozenset({str}),
}  # fmt: skip


def _one_of(values: list[Any]) -> Look:
    # Numbers are left to the validator: Python takes 1, 1.0 and True for the same.
    texts = {value for value in values if isinstance(value, str)}
    return lambda data: isinstance(data, str) and data in texts
