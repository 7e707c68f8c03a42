"""The gateway checks data as workers do, without their code, and says everything that is wrong."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Tombstone
from headrace.gateway.problems import ProblemError
from headrace.gateway.validation import MOST, FieldErrors
from headrace.workflows.schemas import SIZE_CAP, schema_of
from headrace.workflows.store import SourceDescriptor


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=2)]
    price: Decimal
    tags: set[str] = set()


class Paid(msgspec.Struct, tag="paid"):
    amount: int


class Open(msgspec.Struct, tag="open"):
    until: datetime


class Order(msgspec.Struct, rename="camel"):
    order_id: UUID
    items: list[Item]
    colour: Colour
    state: Paid | Open
    weight: float = 0.0
    parent: Order | None = None
    day: date | None = None
    took: timedelta | None = None
    size: Literal["s", "m"] | int = "s"
    by_number: dict[int, str] = {}
    blob: bytes = b""
    pair: tuple[int, str] = (0, "")


def errors_of(data_type: Any, data: Any) -> dict[str, str]:
    source = SourceDescriptor(kind="requests", name="requests", schema=schema_of(data_type))
    return {row["path"]: row["message"] for row in FieldErrors(source).of(data)}


@st.composite
def orders(draw: st.DrawFn) -> Order:
    items = [
        Item(draw(st.text(min_size=2)), draw(st.decimals(allow_nan=False, allow_infinity=False)))
        for _ in range(draw(st.integers(0, 2)))
    ]
    return Order(
        draw(st.uuids()), items, draw(st.sampled_from(Colour)),
        draw(st.builds(Paid, st.integers(-(2**63), 2**63 - 1)) | st.builds(Open, st.datetimes())),
        weight=draw(st.floats(allow_nan=False, allow_infinity=False)), day=draw(st.none() | st.dates()),
        took=draw(st.none() | st.timedeltas(timedelta(0), timedelta(days=1000))),
        size=draw(st.sampled_from(["s", "m", 7])), by_number=draw(st.dictionaries(st.integers(-9, 9), st.text())),
        blob=draw(st.binary()), pair=draw(st.tuples(st.integers(-9, 9), st.text())),
        parent=draw(st.none() | orders()) if draw(st.booleans()) and draw(st.booleans()) else None,
    )  # fmt: skip


@given(orders())
def test_what_a_worker_takes_is_not_refused(order: Order) -> None:
    text = msgspec.json.encode(order)

    msgspec.json.decode(text, type=Order)
    assert errors_of(Order, msgspec.json.decode(text)) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = [
    int, float, str, bool, bytes, Decimal, UUID, datetime, date, timedelta, Any, dict, list[int], set[int],
    int | None, dict[str, int], dict[int, str], tuple[int, str], Literal["a", 1], Colour, Item, Paid | Open,
]  # fmt: skip


@pytest.mark.parametrize("data_type", TYPES, ids=str)
@given(data=JSON)
def test_what_is_refused_no_worker_would_take(data_type: Any, data: Any) -> None:
    errors = errors_of(data_type, data)

    try:
        msgspec.json.decode(msgspec.json.encode(data), type=data_type)
    except msgspec.ValidationError:
        return  # the schema may say less than the type: then the worker refuses it
    assert errors == {}


def test_B02_every_field_that_is_wrong_is_told_by_its_path() -> None:
    data = {
        "orderId": "x", "items": [{"name": "a", "price": None}, {"price": 1}, 3], "colour": "green",
        "state": {"type": "paid"}, "weight": "1", "parent": {"items": []},
    }  # fmt: skip

    found = errors_of(Order, data)

    assert list(found) == [
        "$.colour", "$.items[0].name", "$.items[0].price", "$.items[1].name", "$.items[2]", "$.orderId",
        "$.parent.colour", "$.parent.orderId", "$.parent.state", "$.state.amount", "$.weight",
    ]  # fmt: skip
    assert found["$.parent.colour"] == "is required"


def test_a_number_that_is_not_whole_is_no_int() -> None:
    assert list(errors_of(int, 1.0)) == ["$"]
    assert list(errors_of(list[int], [1, True])) == ["$[1]"]


def test_no_more_errors_are_told_than_one_can_read() -> None:
    assert len(errors_of(list[int], ["x"] * 1000)) == MOST


def test_a_type_without_a_schema_is_left_to_workers() -> None:
    class Own:
        pass

    assert schema_of(Own) is None
    assert errors_of(Own, {"any": "thing"}) == {}


def test_a_schema_that_is_too_large_is_not_published() -> None:
    fields = [(f"field_{number}", int) for number in range(SIZE_CAP // 20)]

    assert schema_of(msgspec.defstruct("Wide", fields)) is None


def test_a_tombstone_is_none_of_the_data_that_come_in() -> None:
    assert schema_of(Item | Tombstone) == schema_of(Item)


class Tree(msgspec.Struct):
    inner: Tree | None = None


def test_what_is_nested_too_deeply_to_be_checked_is_refused() -> None:
    data: Any = None
    for _ in range(2000):
        data = {"inner": data}

    with pytest.raises(ProblemError) as refused:
        errors_of(Tree, data)
    assert refused.value.code == "too_deep"
