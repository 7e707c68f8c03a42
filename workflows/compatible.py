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
    wanted_class, given_class = get_origin(wanted) or wanted, get_origin(given) or given
    if not (isinstance(wanted_class, type) and isinstance(given_class, type)):
        return False
    if wanted_class is float and given_class is int:
        return True  # PEP 484: an int will do where a float is taken
    if not issubclass(given_class, wanted_class):
        return False
    parts, others = get_args(wanted), get_args(given)
    if not parts or not others or len(parts) != len(others):
        return not parts or not others
    return all(part is other or accepts(part, other) for part, other in zip(parts, others, strict=True))


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
