"""Data and state as JSON: strict, equal when read again, or refused with the field's path."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from headrace import CodecError
from headrace.workflows.codec import encode_json, json_codec, state_codec, type_name
from headrace.workflows.immutable import deeply_immutable


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Day(msgspec.Struct):
    mean: float | None = None
    last: list[float] = []
    by_hour: dict[int, Reading] = {}
    nested: tuple[Reading, ...] = ()


class Counter(msgspec.Struct):
    count: int = 0
    names: set[str] = set()


@dataclasses.dataclass
class Plain:
    mean: float = 0.0


class Renamed(msgspec.Struct, rename="camel"):
    running_mean: float = 0.0


class Tree(msgspec.Struct):
    value: float = 0.0
    children: list[Tree] = []


class Window:
    pass


class Windows(msgspec.Struct):
    windows: list[Window] = []


numbers = some.floats()
readings = some.builds(Reading, sensor=some.text(), celsius=numbers)
days = some.builds(
    Day,
    mean=some.none() | numbers,
    last=some.lists(numbers, max_size=3),
    by_hour=some.dictionaries(some.integers(0, 23), readings, max_size=3),
    nested=some.lists(readings, max_size=2).map(tuple),
)


def holds_only_finite(day: Day) -> bool:
    readings = [*day.by_hour.values(), *day.nested]
    found = [*day.last, *(reading.celsius for reading in readings), *([] if day.mean is None else [day.mean])]
    return all(math.isfinite(number) for number in found)


def encodable(day: Day) -> bool:
    try:
        for reading in [*day.by_hour.values(), *day.nested]:
            reading.sensor.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(days)
def test_any_state_comes_back_equal_or_is_refused(day: Day) -> None:
    codec = state_codec(Day)

    if holds_only_finite(day) and encodable(day):
        assert codec.decode(codec.encode(day)) == day
    else:
        with pytest.raises(CodecError):
            codec.encode(day)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Day(mean=math.nan), "$.mean"),
        (Day(last=[1.0, math.inf]), "$.last[1]"),
        (Day(by_hour={7: Reading("s1", -math.inf)}), "$.by_hour[7].celsius"),
        (Day(nested=(Reading("s1", math.nan),)), "$.nested[0].celsius"),
        (Plain(math.nan), "$.mean"),
        (Renamed(math.nan), "$.runningMean"),
        (Tree(children=[Tree(children=[Tree(math.nan)])]), "$.children[0].children[0].value"),
        ({"a": {1, 2}, "b": {math.nan}}, "$.b[...]"),
    ],
)
def test_a_number_that_json_has_no_word_for_is_refused_with_its_path(value: Any, path: str) -> None:
    codec = json_codec(type(value))

    with pytest.raises(CodecError) as caught:
        codec.encode(value)

    assert caught.value.path == path


def test_a_null_or_the_word_null_is_no_missing_number() -> None:
    codec = json_codec(dict[str, float | None])

    assert codec.decode(codec.encode({"null": None, "a": 1.5})) == {"null": None, "a": 1.5}


def test_numbers_are_refused_as_keys_as_well() -> None:
    with pytest.raises(CodecError, match="JSON can't carry nan"):
        json_codec(dict[float, int]).encode({math.nan: 1})


def test_decoding_is_strict_and_names_the_field() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        json_codec(Reading).decode(b'{"sensor": "s1", "celsius": "warm"}')

    error = CodecError.of(caught.value)
    assert str(error) == "Expected `float`, got `str` - at `$.celsius`"
    assert error.path == "$.celsius"


def test_a_broken_text_is_an_error_at_the_root() -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        json_codec(Reading).decode(b'{"sensor": ')

    assert CodecError.of(caught.value).path == "$"


@pytest.mark.parametrize("value", ["\ud800", object(), {1: object()}])
def test_what_cannot_be_written_is_a_codec_error(value: object) -> None:
    with pytest.raises(CodecError):
        encode_json(value)


def test_a_type_that_msgspec_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(CodecError, match=r"msgspec can't decode `Window` - at `\$.windows\[...\]`"):
        json_codec(Windows)


@pytest.mark.parametrize(("state", "fresh"), [(int, 0), (dict[str, int], {}), (Counter, Counter()), (int | None, None)])
def test_a_fresh_state_is_made_without_arguments(state: Any, fresh: object) -> None:
    codec = state_codec(state)

    assert codec.new() == fresh


def test_fresh_states_share_nothing() -> None:
    codec = state_codec(Counter)

    codec.new().names.add("a")

    assert codec.new().names == set()


@pytest.mark.parametrize("state", [Reading, int | str])
def test_a_state_that_needs_arguments_is_refused(state: Any) -> None:
    with pytest.raises(CodecError, match="can't be made without arguments"):
        state_codec(state)


class Heap(msgspec.Struct, frozen=True):
    items: tuple[Reading, ...]


class Box(msgspec.Struct, frozen=True):
    items: list[int]


@dataclasses.dataclass(frozen=True)
class FrozenPlain:
    mean: float


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        (str, True),
        (Reading, True),
        (Heap, True),
        (tuple[Reading, int], True),
        (frozenset[str], True),
        (Reading | None, True),
        (FrozenPlain, True),
        (Box, False),
        (Day, False),
        (Plain, False),
        (list[int], False),
        (dict[str, int], False),
        (Any, False),
    ],
)
def test_what_may_be_shared_without_a_copy(data_type: Any, expected: bool) -> None:
    assert deeply_immutable(data_type) is expected


def test_types_are_named_as_users_write_them() -> None:
    assert type_name(Reading) == "Reading"
    assert type_name(dict[str, int]) == "dict[str, int]"
