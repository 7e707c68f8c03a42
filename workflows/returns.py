"""What a return annotation lets a node return: actions, data, ends, nothing."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Never, NoReturn, TypeVar, get_args, get_origin

import typing_extensions

from headrace.workflows.actions import Action, Complete, Reject, Terminate
from headrace.workflows.codec import type_name
from headrace.workflows.compatible import runtime_classes
from headrace.workflows.hints import alternatives

_NEVER = (Never, NoReturn, typing_extensions.Never, typing_extensions.NoReturn)


class Fault(NamedTuple):
    """A mistake in a node, before it is known where the node stands."""

    code: str
    message: str
    cure: str


class FaultError(Exception):
    """Raised where reading a node can't go on."""

    def __init__(self, code: str, message: str, cure: str) -> None:
        self.fault = Fault(code, message, cure)
        super().__init__(message)


@dataclass(slots=True)
class Returns:
    """Everything that a node may return, flat."""

    actions: list[Action] = field(default_factory=list)
    data: list[Any] = field(default_factory=list)
    """Types of data, each with a class of its own at run time."""
    ends: list[Any] = field(default_factory=list)
    """Of `Complete` and `Terminate`, those that are among them."""
    lists: bool = False
    """A list is: several things at once."""


def read_returns(annotation: Any, *, batch: bool = False) -> tuple[Returns, list[Fault]]:
    """Take a return annotation apart.

    Args:
        annotation: Evaluated; of a batch node the part for one event.
        batch: A `Reject` may be returned, in an event's place.
    """
    returns, faults = Returns(), list[Fault]()
    _read(annotation, returns, faults, batch=batch, listed=False)
    _tell_apart(returns, faults)
    return returns, faults


def _read(annotation: Any, returns: Returns, faults: list[Fault], *, batch: bool, listed: bool) -> None:
    for part in alternatives(annotation):
        if part is None or part is type(None) or part in _NEVER:
            continue
        if get_origin(part) is list and not listed:
            returns.lists = True
            _read(get_args(part)[0], returns, faults, batch=batch, listed=True)
        elif not (_ends(part, returns) or _acts(part, returns, faults) or (batch and part is Reject)):
            fault = _data_fault(part)
            if fault is not None:
                faults.append(fault)
            elif part not in returns.data:
                returns.data.append(part)


def _ends(part: Any, returns: Returns) -> bool:
    if part is Complete or part is Terminate:
        returns.ends.append(part)
        return True
    return False


def _acts(part: Any, returns: Returns, faults: list[Fault]) -> bool:
    """Note the actions of an enum, or of a `Literal` of its members."""
    members: list[Any] = []
    if isinstance(part, type) and issubclass(part, Action):
        members = list(part)
        if not members:
            faults.append(Fault("no-action", f"returns {part.__name__}, which has no members", "Name your own enum"))
            return True
    elif get_origin(part) is typing.Literal and all(isinstance(value, Action) for value in get_args(part)):
        members = list(get_args(part))
    returns.actions.extend(member for member in members if member not in returns.actions)
    return bool(members)


def _data_fault(part: Any) -> Fault | None:
    name = type_name(part)
    if part is list:
        return Fault("return-type", "returns a list of it does not say what", "Write: list[Alert], with your type")
    if part is Reject:
        return Fault("return-type", "returns Reject", "Raise it: raise Reject('reason')")
    if isinstance(part, TypeVar):
        return Fault("return-type", f"returns {name}, which its class leaves open", "Say what it stands for")
    if part is Any or part is object or runtime_classes(part) is None:
        return Fault(
            "return-type",
            f"returns {name}, and data travels by its exact class",
            "Write the class in the return annotation: -> Alert, or -> Alert | Report",
        )
    return None


def _tell_apart(returns: Returns, faults: list[Fault]) -> None:
    """Two types of data with one class at run time can't be routed, nor decoded."""
    seen: dict[type, Any] = {}
    for data_type in returns.data:
        for cls in runtime_classes(data_type) or ():
            if cls in seen and not issubclass(cls, Enum):
                both = f"{type_name(seen[cls])} and {type_name(data_type)}"
                faults.append(
                    Fault(
                        "ambiguous", f"returns {both}, which look the same at run time", "Wrap one of them in a struct"
                    )
                )
            seen.setdefault(cls, data_type)
