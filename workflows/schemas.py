"""JSON Schemas of the types of sources, for those who check data without the user's code."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .codec import without_tombstone

SIZE_CAP: Final = 64 * 1024
"""Bytes of a schema that is published: it is read with every descriptor."""
_VALUES: Final = ("default", "examples", "enum", "const")
"""Keywords that have data, not schemas."""
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(data_type: Any) -> dict[str, Any] | None:
    """The JSON Schema of a source's type; None where it has none, so that its data are checked by workers only.

    A schema refuses nothing that a worker takes: where msgspec reads more than it says, the schema says more.
    """
    try:
        schema = msgspec.json.schema(without_tombstone(data_type))
    except (TypeError, ValueError, RecursionError):  # types that only the user's decoder knows
        return None
    widened = {"$schema": _DRAFT, **_widened(schema)}
    return widened if len(msgspec.json.encode(widened)) <= SIZE_CAP else None


def _widened(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_widened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "string" and schema.get("format") == "decimal":
        return {**schema, "type": ["string", "number"]}  # it reads both
    return {
        name: value if name in _VALUES else _widened(value)
        for name, value in schema.items()
        if name != "uniqueItems"  # a set is read from what has an item twice
    }
