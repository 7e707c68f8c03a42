"""Which route takes what a node returns: actions, classes of data, the rest; and the types that flow there."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from headrace.workflows.actions import Action, Complete, Failure, Terminate, Timeout
from headrace.workflows.codec import type_name
from headrace.workflows.compatible import runtime_classes
from headrace.workflows.findings import Findings
from headrace.workflows.graph import LettersItem, NodeItem, Route, SourceItem, Start, WaitItem
from headrace.workflows.letters import DeadLetterMessage
from headrace.workflows.signature import Signature

_INNER_OUTCOMES = (Complete, Timeout, Failure)


@dataclass(slots=True)
class Routing:
    """Routes of one node, resolved."""

    actions: dict[Action, Route] = field(default_factory=dict)
    classes: dict[type, Route] = field(default_factory=dict)
    """As written in `.on(Class)`."""
    default: Route | None = None
    failure: Route | None = None

    def route_of(self, cls: type) -> Route | None:
        """Where data of this class goes: the route of the class or its nearest base, else `.to(...)`."""
        return next((self.classes[base] for base in cls.__mro__ if base in self.classes), self.default)

    def classes_of(self, signature: Signature) -> dict[type, Any]:
        """Classes of data that may come, each with the type to write it as: as annotated, and as routed."""
        found: dict[type, Any] = {}
        for data_type in signature.returns.data:
            for cls in runtime_classes(data_type) or ():
                found[cls] = data_type
        for routed in self.classes:
            if routed not in found and any(issubclass(routed, cls) for cls in found):
                found[routed] = routed
        return found


def routing_of(node: NodeItem, findings: Findings) -> Routing:
    """The routes of a node; what is wrong with them goes to `findings`."""
    routing = Routing()
    for route in findings.graph.routes_of(node):
        if route.match is None:
            if routing.default is not None and not beside(routing.default, route):
                _twice(node, "its data", "", routing.default, route, findings)
            routing.default = together(routing.default, route)
        elif not route.match:
            findings.add(route.where, node.name, "empty", "`.on()` names nothing", "Name an action or a class")
        for match in route.match or ():
            _place(node, routing, match, route, findings)
    if node.signature is not None:
        _complete(node, node.signature, routing, findings)
    return routing


def beside(first: Route, second: Route) -> bool:
    """Whether two routes for the same thing may be: one of them leads into a join."""
    return first.joins or second.joins


def together(first: Route | None, second: Route) -> Route:
    """Two routes for the same thing as one; where that may not be, the first one."""
    if first is None:
        return second
    if not beside(first, second):
        return first
    written_by_user = second if first.joins else first
    joins = first.joins and second.joins
    return Route(first.start, first.match, first.targets + second.targets, written_by_user.where, joins)


def flowing(route: Route, match: object, routing: Routing | None) -> list[Any]:
    """Types of the data that take a route; `match` is one of the route's, None for `.to(...)`."""
    start = route.start
    if not isinstance(start, NodeItem):
        return [_beginning(start, match)]
    signature = start.signature
    if start.inner:
        return [match] if match in _INNER_OUTCOMES else []
    if signature is None or routing is None:
        return []
    if isinstance(match, Enum):
        return [signature.takes]
    if match is Failure:
        return [Failure]
    return [data_type for cls, data_type in routing.classes_of(signature).items() if _taken(cls, match, routing)]


def _beginning(start: Start, match: object) -> Any:
    """Type of the data that begins at what is no node."""
    if isinstance(start, SourceItem):
        return getattr(start.source, "type", Any)
    if isinstance(start, WaitItem) and match is None:
        return getattr(start.source.source, "type", Any)
    if isinstance(start, LettersItem):
        return DeadLetterMessage
    return Timeout if match is None else match


def _taken(cls: type, match: object, routing: Routing) -> bool:
    """Data of this class takes the route of `match`, and no nearer one."""
    return next((base for base in cls.__mro__ if base in routing.classes), None) is match


def written(match: object) -> str:
    """How a user writes what `.on(...)` takes."""
    if isinstance(match, Enum):
        return f"{type(match).__name__}.{match.name}"
    return match.__name__ if isinstance(match, type) else repr(match)


def _place(node: NodeItem, routing: Routing, match: object, route: Route, findings: Findings) -> None:
    """Put one thing that `.on(...)` names into the table, or say why it can't be."""
    problem = _refused(node, match)
    if problem is not None:
        code, message, cure = problem
        findings.add(route.where, node.name, code, message, cure)
        return
    if match is Failure:
        before, routing.failure = routing.failure, together(routing.failure, route)
    elif isinstance(match, Action):
        before = routing.actions.get(match)
        routing.actions[match] = together(before, route)
    else:
        assert isinstance(match, type)
        before = routing.classes.get(match)
        routing.classes[match] = together(before, route)
    if before is not None and (not beside(before, route) or (route.match or ()).count(match) > 1):
        what = "action " if isinstance(match, Action) else ""
        _twice(node, f"{what}{written(match)}", f".on({written(match)})", before, route, findings)


def _refused(node: NodeItem, match: object) -> tuple[str, str, str] | None:
    """Why nothing can ever take this route: code, message, cure."""
    name, text = node.name, written(match)
    if match is Terminate:
        cure = f"Write {name}.on(Failure)" if node.inner else "Take it out; what is to happen at the end goes before it"
        return (
            "on-end",
            "`.on(Terminate)` is a route for a run that has ended; an inner workflow's Terminate arrives as Failure",
            cure,
        )
    if node.inner:
        if match in _INNER_OUTCOMES:
            return None
        return "never-returned", f"an inner workflow has no {text}", "Its outcomes are Complete, Timeout and Failure"
    if match is Complete:
        return (
            "on-end",
            "`.on(Complete)` is a route for a run that has ended; only an inner workflow's Complete arrives",
            "Take it out; what is to happen at the end goes before it",
        )
    return None if match is Failure else _never_returned(node, match, text)


def _never_returned(node: NodeItem, match: object, text: str) -> tuple[str, str, str] | None:
    signature = node.signature
    if isinstance(match, str):
        return "no-action", f"{text} is no action", "Write a member of your Action enum: .on(Heat.HIGH)"
    if isinstance(match, Enum) and not isinstance(match, Action):
        enum = type(match).__name__
        return "no-action", f"{text} is no action", f"Derive the enum from Action: class {enum}(Action)"
    if not isinstance(match, (Action, type)):
        return "no-action", f"{text} is neither an action nor a class", "Write .on(Heat.HIGH) or .on(Alert)"
    if signature is None:
        return None
    if isinstance(match, Action):
        if match in signature.returns.actions:
            return None
        cure = f"Write the enum in its return annotation: -> {type(match).__name__}, or take the route out"
        return "never-returned", f"action {text} has a route, but its return annotation{_says(signature)}", cure
    classes = [cls for data in signature.returns.data for cls in runtime_classes(data) or ()]
    if any(issubclass(match, cls) or issubclass(cls, match) for cls in classes):
        return None
    cure = f"Add {text} to its return annotation, or take the route out"
    return "never-returned", f"{text} has a route, but its return annotation{_says(signature)}", cure


def _says(signature: Signature) -> str:
    returns = signature.returns
    names = [type_name(data) for data in returns.data]
    names += dict.fromkeys(type(action).__name__ for action in returns.actions)
    names += ["an end"] if returns.ends else []
    return f" says {' | '.join(names) or 'None'}"


def _twice(node: NodeItem, what: str, on: str, first: Route, second: Route, findings: Findings) -> None:
    findings.add(
        second.where,
        node.name,
        "routed-twice",
        f"{what} is routed twice, first at {first.where}",
        f"Write one route; to send it to both: {node.name}{on}.to(one, other)",
    )


def _complete(node: NodeItem, signature: Signature, routing: Routing, findings: Findings) -> None:
    """Everything that the node may return has a route, and every route something to take."""
    where, name = node.where, node.name
    for action in signature.returns.actions:
        if action not in routing.actions:
            text = written(action)
            findings.add(where, name, "no-route", f"action {text} has no route", f"Add: {name}.on({text}).to(...)")
    classes = routing.classes_of(signature)
    for cls, data_type in classes.items():
        if routing.route_of(cls) is None:
            findings.add(
                where,
                name,
                "no-route",
                f"the {type_name(data_type)} it returns has no route",
                f"Add: {name}.to(...), or {name}.to(None) to drop it",
            )
    if routing.default is not None and not any(_taken(cls, None, routing) for cls in classes):
        message = "`.to(...)` takes data that it returns, but its return annotation"
        rest = "; all of it has routes by class" if classes else ""
        findings.add(
            routing.default.where,
            name,
            "never-returned",
            f"{message}{_says(signature)}{rest}",
            f"Route its actions: {name}.on(...).to(...)" if signature.returns.actions else "Take the route out",
        )
