"""A workflow that is a node of another one: its parts put into the outer graph, under the node's name.

The node itself stays, as the door by which events come in: what its workflow's source leads to is where the door leads,
by `Entry.IN`. `Complete` and `Terminate` inside lead out by the door's `.on(Complete)` and `.on(Failure)`. What is run
has nodes in place of the waits and time-outs inside, see `inner_places`; what is drawn has them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from headrace.workflows.actions import Action, Complete, Terminate, Timeout
from headrace.workflows.graph import (
    Destination,
    Graph,
    LettersItem,
    NodeItem,
    NodeOptions,
    Route,
    SinkItem,
    SourceItem,
    Start,
    TimeoutItem,
    Unknown,
    WaitItem,
)  # fmt: skip
from headrace.workflows.inner_places import (
    ARRIVAL_PLACE,
    WAIT_PLACE,
    Awaited,
    Entry,
    InnerArrival,
    InnerTimeout,
    InnerWait,
    awaited,
)  # fmt: skip
from headrace.workflows.join_routes import with_joins
from headrace.workflows.plan import BETWEEN, PART
from headrace.workflows.returns import Returns
from headrace.workflows.signature import Signature
from headrace.workflows.timers import IDLE, TOTAL

Copies: TypeAlias = dict[Start | SinkItem, Any]
"""What stands in the outer graph for each part of a workflow that is a node."""
Arrivals: TypeAlias = dict[Start, tuple[NodeItem, tuple[Action]]]
"""By wait: the node by which goes on what it is for, and how."""


def inside(node: NodeItem) -> Graph:
    """The graph of a node that is a workflow."""
    graph: Graph = node.user._graph
    return graph


def is_door(route: Route) -> bool:
    """Whether this is the way from a door to what is inside."""
    start = route.start
    return isinstance(start, NodeItem) and start.inner and isinstance((route.match or (None,))[0], Entry | Awaited)


def scope_of(route: Route) -> NodeItem | None:
    """The workflow's node inside of which a route was written; None: it is the outermost workflow's own."""
    start = route.start
    if isinstance(start, WaitItem | TimeoutItem):
        return start.scope
    if not isinstance(start, NodeItem):
        return None
    return start if is_door(route) else start.scope


def chain(node: NodeItem | None) -> Iterator[NodeItem]:
    """A node and all that it is inside of, from the inside."""
    while node is not None:
        yield node
        node = node.scope


def is_messages(source: SourceItem) -> bool:
    """Whether it is a `MessageSource`."""
    return getattr(source.source, "kind", "") == "messages"


def ways_in(node: NodeItem) -> list[SourceItem]:
    """Sources of a workflow that is a node by which events come in: one, if all is well."""
    bound = [source for source, _ in node.bound]
    return [source for source in inside(node).sources if source not in bound and not is_messages(source)]


def inlets(node: NodeItem, around: Sequence[Graph] = ()) -> list[SourceItem]:
    """Sources of messages of a workflow that is a node, and of those inside it: the outer workflow has them, too."""
    graph = inside(node)
    if graph in around:
        return []
    bound = [source for source, _ in node.bound]
    own = [source for source in graph.sources if source not in bound and is_messages(source)]
    names = {source.name for source in graph.sources}
    for inner in graph.nodes:
        if inner.inner:
            own += [source for source in inlets(inner, [*around, graph]) if source.name not in names]
    return own


def awaited_inside(graph: Graph) -> set[SourceItem]:
    """Sources of a graph that waits of workflows which are its nodes may be on."""
    found: set[SourceItem] = set()
    for node in graph.nodes:
        if node.inner:
            names = {source.name for source in inlets(node, [graph])}
            found |= {source for source in graph.sources if source.name in names and is_messages(source)}
            found |= {outer for _, outer in node.bound if isinstance(outer, SourceItem)}
    return found


def opened(graph: Graph, *, drawn: bool = False) -> Graph:
    """The graph with all of its workflows' nodes opened; itself where there are none.

    One that is inside itself stays closed, and what can't be run is put in as well: also mistakes are drawn.

    Args:
        graph: As written.
        drawn: With the waits and time-outs inside as they were written.
    """
    if not any(node.inner for node in graph.nodes):
        return graph
    flat = replace(
        graph, nodes=[], sources=list(graph.sources), sinks=list(graph.sinks), waits=list(graph.waits),
        timeouts=list(graph.timeouts), routes=list(graph.routes), lost=dict(graph.lost), arrivals={}, inner_letters={},
    )  # fmt: skip
    opener = _Opener(flat, drawn=drawn)
    own: Copies = {source: source for source in graph.sources}
    for node in graph.nodes:
        opener.add(node, node.bound, own)
    return flat


class _Opener:
    """Puts what is inside of workflows' nodes into the outermost graph."""

    def __init__(self, flat: Graph, *, drawn: bool) -> None:
        self._flat = flat
        self._drawn = drawn

    def add(self, node: NodeItem, bound: Sequence[tuple[Any, Any]], around: Copies) -> None:
        """A node, and what is inside of it.

        Args:
            node: As it is in the outermost graph.
            bound: Sources of the workflow that it is, and those of the workflow that it is a node of.
            around: What stands for parts of the latter.
        """
        self._flat.nodes.append(node)
        if node.inner and inside(node) not in [self._flat, *(inside(outer) for outer in chain(node.scope))]:
            self._open(node, {source: around.get(outer) for source, outer in bound}, around)

    def _open(self, door: NodeItem, bound: Copies, around: Copies) -> None:
        """Put in what is inside of a workflow's node."""
        graph, flat = inside(door) if self._drawn else with_joins(inside(door)), self._flat
        copies: Copies = {source: self._source(source, door, bound, around) for source in graph.sources}
        arrivals = self._drawn_times(door, copies) if self._drawn else self._places(door, copies)
        for node in graph.nodes:
            copied = copies[node] = replace(
                node, name=door.name + BETWEEN + node.name, scope=door, written=node, options=_renamed(node, door)
            )
            if node.join is not None:
                copied.signature = node.signature and _named(node.signature, copied.name)
                copies |= dict.fromkeys((branch.port for branch in node.join.branches), copied)
            self.add(copied, node.bound, copies)
        for node, parts in graph.lost.items():
            flat.lost[copies[node]] = tuple(copies[part] for part in parts)
        for sink in graph.sinks:
            copies[sink] = replace(sink, name=door.name + BETWEEN + sink.name, written=sink)
            flat.sinks.append(copies[sink])
        for route in graph.routes:
            targets = tuple(_target(copies, target) for target in route.targets)
            if isinstance(route.start, LettersItem):
                there = flat.inner_letters.get(door, ())
                flat.inner_letters[door] = (*there, replace(route, targets=targets))
                continue
            start, match = copies[route.start], route.match
            if isinstance(start, SourceItem):
                continue  # what goes on from waits only
            if isinstance(route.start, SourceItem):
                match = (Entry.IN,)
            elif match is None and route.start in arrivals:
                start, match = arrivals[route.start]
            flat.routes.append(Route(start, match, targets, route.where))

    def _source(self, source: SourceItem, door: NodeItem, bound: Copies, around: Copies) -> Any:
        """What stands for a source of the workflow: the door, or a source of the outermost workflow."""
        if source in bound:
            return bound[source] or door
        if not is_messages(source):
            return door
        outer = next((item for item in around if isinstance(item, SourceItem) and item.name == source.name), None)
        if outer is not None and is_messages(outer):
            return around[outer]
        same = next((item for item in self._flat.sources if item.name == source.name), None)
        if same is None:
            self._flat.sources.append(source)
        return same or source

    def _drawn_times(self, door: NodeItem, copies: Copies) -> Arrivals:
        """Waits and time-outs, as they are drawn."""
        graph, flat = inside(door), self._flat
        for wait in graph.waits:
            copies[wait] = replace(wait, name=door.name + BETWEEN + wait.name, scope=door)
            flat.waits.append(copies[wait])
        for timeout in graph.timeouts:
            copies[timeout] = replace(timeout, name=door.name + BETWEEN + timeout.name, scope=door)
            flat.timeouts.append(copies[timeout])
        return {}

    def _places(self, door: NodeItem, copies: Copies) -> Arrivals:
        """Nodes in place of waits and time-outs; and for each wait, where goes on what it is for."""
        graph, arrivals = inside(door), Arrivals()
        names = {wait: f"{door.name}{BETWEEN}{wait.name}{WAIT_PLACE}" for wait in graph.waits}
        by_door = awaited([name for wait, name in names.items() if copies[wait.source] is door])
        for wait, name in names.items():
            user = InnerWait(name, tuple(names.values()), wait.timeout)
            copies[wait] = self._place(name, wait, user, door)
            if name in by_door:
                arrivals[wait] = door, (by_door[name],)
                continue
            arrival = InnerArrival(name)
            place = self._place(name.removesuffix(WAIT_PLACE) + ARRIVAL_PLACE, wait, arrival, door)
            self._flat.arrivals[place] = copies[wait], copies[wait.source]
            arrivals[wait] = place, (Entry.IN,)
        for timeout in graph.timeouts:
            kind, after = (IDLE, timeout.idle) if timeout.idle is not None else (TOTAL, timeout.total)
            name = f"{door.name}{BETWEEN}{timeout.name}{PART}{kind}"
            copies[timeout] = self._place(name, timeout, InnerTimeout(kind, after), door)
        return arrivals

    def _place(
        self, name: str, item: WaitItem | TimeoutItem, user: InnerWait | InnerArrival | InnerTimeout, door: NodeItem
    ) -> NodeItem:
        arrives = isinstance(user, InnerArrival)
        returns = Returns(actions=[Entry.IN]) if arrives else Returns(data=[Timeout])
        signature = Signature(
            process=user.process, takes=Any, state=None, run_state=None, returns=returns, is_async=False,
            is_batch=False, sets_timers=not arrives,
        )  # fmt: skip
        former = tuple(door_name + name.removeprefix(door.name) for door_name in door.options.former_names)
        node = NodeItem(name, item.where, user, NodeOptions(renamed_from=former or None), signature, scope=door)
        self._flat.nodes.append(node)
        return node


def _target(copies: Copies, target: Destination) -> Destination:
    if target is Complete or target is Terminate or isinstance(target, Unknown):
        return target
    found: Destination = copies[target]  # type: ignore[index]
    return found


def _named(join: Signature, name: str) -> Signature:
    """The signature of a join that has another name here."""
    process: Any = join.process
    return replace(join, process=replace(process, name=name))


def _renamed(node: NodeItem, door: NodeItem) -> Any:
    """A node's options, with all names that it had: its own former ones, and those of what it is inside of."""
    doors = (door.name, *door.options.former_names)
    names = [a + BETWEEN + b for a in doors for b in (node.name, *node.options.former_names)]
    return replace(node.options, renamed_from=tuple(names[1:]) or None)
