"""A workflow that is a node of another one: its parts put into the outer graph, under the node's name.

The node itself stays, as the door by which events come in: what its workflow's source leads to is where the door leads,
by `Entry.IN`. `Complete` and `Terminate` inside lead out by the door's `.on(Complete)` and `.on(Failure)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

from headrace.workflows.actions import Complete, Terminate
from headrace.workflows.graph import Destination, Graph, NodeItem, Route, SinkItem, Start, Unknown
from headrace.workflows.plan import BETWEEN


class Entry(Enum):
    """What a door returns."""

    IN = "in"


def enter(event: object, ctx: object) -> Entry:
    """What a door does: all events go in."""
    del event, ctx
    return Entry.IN


def inside(node: NodeItem) -> Graph:
    """The graph of a node that is a workflow."""
    graph: Graph = node.user._graph
    return graph


def is_door(route: Route) -> bool:
    """Whether this is the way from a door to what is inside."""
    return route.match == (Entry.IN,)


def scope_of(route: Route) -> NodeItem | None:
    """The workflow's node inside of which a route was written; None: it is the outermost workflow's own."""
    start = route.start
    if not isinstance(start, NodeItem):
        return None
    return start if is_door(route) else start.scope


def chain(node: NodeItem | None) -> Iterator[NodeItem]:
    """A node and all that it is inside of, from the inside."""
    while node is not None:
        yield node
        node = node.scope


def opened(graph: Graph) -> Graph:
    """The graph with all of its workflows' nodes opened; itself where there are none.

    One that is inside itself stays closed, and what can't be run is put in as well: also mistakes are drawn.
    """
    if not any(node.inner for node in graph.nodes):
        return graph
    flat = replace(
        graph, nodes=[], sinks=list(graph.sinks), waits=list(graph.waits), timeouts=list(graph.timeouts),
        routes=list(graph.routes),
    )  # fmt: skip
    for node in graph.nodes:
        _add(flat, node)
    return flat


def _add(flat: Graph, node: NodeItem) -> None:
    flat.nodes.append(node)
    if node.inner and inside(node) not in [flat, *(inside(outer) for outer in chain(node.scope))]:
        _open(flat, node)


def _open(flat: Graph, door: NodeItem) -> None:
    """Put in what is inside of a workflow's node."""
    graph = inside(door)
    copies: dict[Start | SinkItem, Any] = dict.fromkeys(graph.sources, door)
    for node in graph.nodes:
        copied = copies[node] = replace(
            node, name=door.name + BETWEEN + node.name, scope=door, written=node, options=_renamed(node, door)
        )
        _add(flat, copied)
    for sink in graph.sinks:
        copies[sink] = replace(sink, name=door.name + BETWEEN + sink.name, written=sink)
        flat.sinks.append(copies[sink])
    for wait in graph.waits:
        copies[wait] = replace(wait, name=door.name + BETWEEN + wait.name)
        flat.waits.append(copies[wait])
    for timeout in graph.timeouts:
        copies[timeout] = replace(timeout, name=door.name + BETWEEN + timeout.name)
        flat.timeouts.append(copies[timeout])
    for route in graph.routes:
        if route.start is graph.letters:
            continue
        match: tuple[object, ...] | None = (Entry.IN,) if copies[route.start] is door else route.match
        targets = tuple(_target(copies, target) for target in route.targets)
        flat.routes.append(Route(copies[route.start], match, targets, route.where))


def _target(copies: dict[Start | SinkItem, Any], target: Destination) -> Destination:
    if target is Complete or target is Terminate or isinstance(target, Unknown):
        return target
    found: Destination = copies[target]  # type: ignore[index]
    return found


def _renamed(node: NodeItem, door: NodeItem) -> Any:
    """A node's options, with all names that it had: its own former ones, and those of what it is inside of."""
    doors = (door.name, *door.options.former_names)
    names = [a + BETWEEN + b for a in doors for b in (node.name, *node.options.former_names)]
    return replace(node.options, renamed_from=tuple(names[1:]) or None)
