"""Annotations as objects: strings evaluated where they were written, type variables filled in by subclasses."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import typing_extensions
from typing_extensions import TypeAliasType

ALIASES: tuple[Any, ...] = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
"""Type aliases may be the language's own or those of typing_extensions."""


def evaluate(annotation: Any, function: Callable[..., Any], scope: Mapping[str, Any]) -> Any:
    """The annotation as an object.

    Args:
        annotation: As found; under `from __future__ import annotations` a string.
        function: The function that it stands in.
        scope: Local names at the place where the node was added: the types may be local to it.

    Raises:
        Exception: Whatever evaluating the user's text raises; most often `NameError`.
    """
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    plain = underlying(function)
    names = {**scope, **_closure(plain)}
    return get_type_hints(holder, getattr(plain, "__globals__", {}), names, include_extras=True)["it"]


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that the user wrote, below partials, bindings and well-behaved decorators."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = inspect.unwrap(function)
        elif not hasattr(function, "__globals__") and callable(function):
            called = type(function).__call__
            if not isinstance(called, types.FunctionType):
                return function
            function = called
        else:
            return function


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or cells is None:
        return {}
    names = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # an empty cell: the name is not bound yet
            continue
    return names


def base_arguments(cls: type, base: type) -> tuple[Any, ...]:
    """What `cls` gave for the type parameters of `base`; () if nothing.

    Examples:
        >>> from headrace import Node
        >>> class Count(Node[str, int]): ...
        >>> base_arguments(Count, Node)[:2]
        (<class 'str'>, <class 'int'>)
    """
    if cls is base:
        return tuple(getattr(cls, "__parameters__", ()))
    for written in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(written) or written
        if origin is base:
            return get_args(written)
        if isinstance(origin, type) and issubclass(origin, base):
            filled = dict(zip(getattr(origin, "__parameters__", ()), get_args(written), strict=False))
            return tuple(substitute(argument, filled) for argument in base_arguments(origin, base))
    return ()


def variables_of(cls: type, function: Callable[..., Any]) -> dict[Any, Any]:
    """Type variables in the annotations of a method, and what they stand for in `cls`."""
    name = getattr(function, "__name__", "")
    owner = next((base for base in cls.__mro__ if name in base.__dict__), cls)
    return dict(zip(getattr(owner, "__parameters__", ()), base_arguments(cls, owner), strict=False))


def substitute(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """The annotation with type variables filled in."""
    if isinstance(annotation, typing.TypeVar):
        return variables.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type) or not variables:
        return annotation
    return annotation[tuple(variables.get(parameter, parameter) for parameter in parameters)]


def expand(annotation: Any) -> Any:
    """What an alias or an `Annotated` stands for: `Result[Alert]`, `type Heat = ...`."""
    while True:
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, ALIASES):
            annotation = annotation.__value__
        elif isinstance(origin, ALIASES):
            filled = dict(zip(origin.__type_params__, get_args(annotation), strict=False))
            annotation = substitute(origin.__value__, filled)
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, aliases opened; of anything else itself."""
    annotation = expand(annotation)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return [part for member in get_args(annotation) for part in alternatives(member)]
    return [annotation]


def is_typed_dict(annotation: Any) -> bool:
    """True for a `TypedDict`, the language's own or that of typing_extensions."""
    return typing_extensions.is_typeddict(annotation) or typing.is_typeddict(annotation)
