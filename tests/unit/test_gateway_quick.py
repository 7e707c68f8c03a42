"""A first look at data says "right" only of what the validator takes, and says it of what is usually sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.quick import quick_look
from headrace.gateway.validation import _Strict  # pyright: ignore[reportPrivateUsage]
from headrace.workflows.schemas import schema_of


class Part(msgspec.Struct):
    name: str
    price: float
    parts: list[Part] = []


class Order(msgspec.Struct, forbid_unknown_fields=True):
    order: str
    count: int
    parts: list[Part] = []
    size: Literal["s", "m"] = "s"
    note: str | None = None
    paid: bool = False
    by_name: dict[str, int] = {}


SCHEMA = schema_of(Order)
RIGHT = [
    {"order": "1", "count": 1},
    {"order": "1", "count": 1, "parts": [{"name": "a", "price": 1, "parts": [{"name": "b", "price": 1.5}]}]},
    {"order": "1", "count": -1, "size": "m", "note": None, "paid": True, "by_name": {"a": 1}},
    {"order": "1", "count": 10**30, "note": "b"},
]


@pytest.mark.parametrize("data", RIGHT)
def test_what_is_right_is_seen_at_once(data: Any) -> None:
    look = quick_look(SCHEMA)

    assert look is not None
    assert look(data)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 1.0}, {"count": True}, {"count": "1"}, {"order": None}, {"size": "l"}, {"paid": 1}, {"more": 1},
        {"parts": [{"name": "a"}]}, {"parts": {}}, {"parts": [{"name": "a", "price": True}]}, {"by_name": {"a": "b"}},
    ],
)  # fmt: skip
def test_what_is_wrong_is_left_to_the_validator(change: dict[str, Any]) -> None:
    look = quick_look(SCHEMA)

    assert look is not None
    assert not look({**RIGHT[0], **change})
    assert list(_Strict(SCHEMA).iter_errors({**RIGHT[0], **change}))


def test_a_schema_with_something_unknown_has_no_look() -> None:
    assert quick_look(schema_of(Annotated[str, msgspec.Meta(min_length=2)])) is None
    assert quick_look({"$ref": "#/$defs/a~1b", "$defs": {"a~1b": True, "a/b": False}}) is None
    assert quick_look({"type": "text"}) is None
    assert quick_look(False) is None


def test_data_that_are_nested_too_deeply_are_left_to_the_validator() -> None:
    look = quick_look({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}})
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]

    assert look is not None
    assert not look(data)
    while data:  # what is left to the interpreter would be freed by recursion
        data = data[0]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5]) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=3, unique=True),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "enum": st.lists(_VALUES, min_size=1, max_size=3),
            "const": _VALUES,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b"]),
        },
    )


@given(
    schema=st.recursive(st.booleans(), _schemas, max_leaves=5),
    definition=st.recursive(st.booleans(), _schemas, max_leaves=3),
    data=_VALUES,
)
def test_whatever_the_schema_the_look_takes_nothing_that_the_validator_does_not(
    schema: Any, definition: Any, data: Any
) -> None:
    definitions = {"a": definition, "b": {"type": "integer"}}
    root = {**schema, "$defs": definitions} if isinstance(schema, dict) else schema
    look = quick_look(root)

    if look is not None and look(data):
        assert not list(_Strict(root).iter_errors(data))
