"""Whether data of one type may go where another is taken, and which class it has at run time."""

from __future__ import annotations

import inspect
import typing
from typing import Any, get_args, get_origin

from headrace.workflows.hints import alternatives, expand, is_typed_dict


def accepts(wanted: Any, given: Any) -> bool:
    """True if every value of type `given` may go to a place that takes `wanted`.

    By class and subclass; generics must agree argument by argument; where either says `Any`, it is allowed.
    """
    return all(any(_fits(place, part) for place in alternatives(wanted)) for part in alternatives(given))


def _fits(wanted: Any, given: Any) -> bool:
    if Any in (wanted, given) or wanted is object or _same(wanted, given):
        return True
    if get_origin(given) is typing.Literal:
        values = get_args(given)
        if get_origin(wanted) is typing.Literal:
            return set(values) <= set(get_args(wanted))
        return all(_fits(wanted, type(value)) for value in values)
    if is_typed_dict(given) or is_typed_dict(wanted):
        return False
    return _fits_class(get_origin(wanted) or wanted, get_origin(given) or given) and _fits_arguments(
        get_args(wanted), get_args(given)
    )


def _fits_class(wanted: Any, given: Any) -> bool:
    if not (isinstance(wanted, type) and isinstance(given, type)):
        return False
    # PEP 484: an int will do where a float is taken.
    return issubclass(given, wanted) or (wanted is float and given is int)


def _fits_arguments(wanted: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    """Bare generics go with any arguments; else they agree one by one."""
    if not wanted or not given:
        return True
    if len(wanted) != len(given):
        return False
    return all(one is other or accepts(one, other) for one, other in zip(wanted, given, strict=True))


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(one == other)


def runtime_classes(data_type: Any) -> list[type] | None:
    """Classes that values of the type have; None if that can't be known (`Any`, `Sequence`, a protocol ...)."""
    data_type = expand(data_type)
    if get_origin(data_type) is typing.Literal:
        return list(dict.fromkeys(type(value) for value in get_args(data_type)))
    if is_typed_dict(data_type):
        return [dict]
    found = get_origin(data_type) or data_type
    if found is object or not isinstance(found, type):
        return None
    if inspect.isabstract(found) or getattr(found, "_is_protocol", False):
        return None
    return [found]
