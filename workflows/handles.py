"""Typed handles: what `Workflow.source`, `node`, `sink` ... give back, and routes as their methods.

The types carry what flows: a checker refuses wrong data, actions of another node, a string for an action.
A handle is invariant in its data while its base `Accepts` is contravariant: with both contravariant, a
checker could solve for `Never` and let a wrong sink pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, overload

from typing_extensions import TypeVar

from headrace.workflows.actions import Action, Complete, Failure, Terminate
from headrace.workflows.errors import HeadraceError
from headrace.workflows.graph import (
    Destination,
    Graph,
    NodeItem,
    Route,
    SinkItem,
    SourceItem,
    Start,
    TimeoutItem,
    Unknown,
    WaitItem,
    caller,
)  # fmt: skip
from headrace.workflows.joins import Met
from headrace.workflows.letters import DeadLetterMessage

D = TypeVar("D")
O = TypeVar("O")  # noqa: E741  read as "output"
X = TypeVar("X")
R = TypeVar("R")
D_contra = TypeVar("D_contra", contravariant=True)
A = TypeVar("A", bound=Action)

Given: TypeAlias = D | list[D] | Complete | Terminate | None
"""What a place that takes `D` may be given by what a node returns: each item of a list goes on by itself,
None and ends do not go on at all. So `-> Alert | None` and `-> list[Alert]` lead where `Alert` does."""
End: TypeAlias = type[Complete] | type[Terminate] | None
"""`.to(Complete)` and `.to(Terminate)` end the run; `.to(None)` drops."""


class Accepts(Generic[D_contra]):
    """A place that events with data `D` may be routed to: a node, a sink, a wait."""

    __slots__ = ("_graph", "_item")

    def __init__(self, graph: Graph, item: NodeItem | SinkItem | WaitItem) -> None:
        self._graph = graph
        self._item = item

    @property
    def name(self) -> str:
        """Its name in the workflow."""
        return self._item.name

    def _accept(self, data: D_contra, /) -> None:
        """Never called: it makes the type parameter matter to checkers that compare by structure."""

    def __repr__(self) -> str:
        return f"<{self._item.name} of workflow {self._graph.name}>"


class Branch(Generic[D]):
    """Something that goes on: a source's events, a node's action or class of data, an outcome."""

    __slots__ = ("_graph", "_match", "_start")

    def __init__(self, graph: Graph, start: Start, match: tuple[object, ...] | None) -> None:
        self._graph = graph
        self._start = start
        self._match = match

    def to(self, *targets: Accepts[D] | End) -> None:
        """Where it goes: to nodes, sinks, waits; to several of them (fan-out); None drops it.

        `Complete` and `Terminate` end the run, with the event's data as its result or reason.
        """
        _route(self._graph, self._start, self._match, targets)

    def _flow(self, data: D, /) -> D:
        """Never called: keeps the type parameter invariant for checkers that infer it."""
        return data


class SourceHandle(Branch[D]):
    """A source of this workflow."""

    __slots__ = ()

    def __init__(self, graph: Graph, item: SourceItem) -> None:
        super().__init__(graph, item, None)

    @property
    def name(self) -> str:
        """Its name in the workflow."""
        return self._start.name


class TimeoutHandle(Branch[D]):
    """The time-out of a workflow's runs."""

    __slots__ = ()

    def __init__(self, graph: Graph, item: TimeoutItem) -> None:
        super().__init__(graph, item, None)


class DeadLettersHandle:
    """What could not be processed of this workflow; see `Workflow.dead_letters`."""

    __slots__ = ("_graph",)

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def to(self, *sinks: Accepts[DeadLetterMessage]) -> None:
        """Sinks that every dead letter goes to, besides being kept in the store."""
        _route(self._graph, self._graph.letters, None, sinks)


class SinkHandle(Accepts[Given[D]]):
    """A sink of this workflow."""

    __slots__ = ()


class WaitHandle(Accepts[Any], Generic[D]):
    """A place where runs stand until an event of the wait's source comes."""

    __slots__ = ()
    _item: WaitItem

    def to(self, *targets: Accepts[D] | End) -> None:
        """Where the awaited event goes."""
        _route(self._graph, self._item, None, targets)

    def on(self, outcome: type[X], /) -> Branch[X]:
        """`on(Timeout)`: what happens when nothing came in time."""
        return Branch(self._graph, self._item, (outcome,))


class JoinHandle(Generic[R]):
    """A place of this workflow where branches meet; what goes on from it has their results."""

    __slots__ = ("_graph", "_item")

    def __init__(self, graph: Graph, item: NodeItem) -> None:
        self._graph = graph
        self._item = item

    @property
    def name(self) -> str:
        """Its name in the workflow."""
        return self._item.name

    def to(self, *targets: Accepts[R] | End) -> None:
        """Where what has met goes: once for each event of a source."""
        _route(self._graph, self._item, None, targets)

    def on(self, outcome: type[Failure], /) -> Branch[Failure]:
        """`on(Failure)`: what happens when too many branches have failed (with `when="any"`, or a number)."""
        return Branch(self._graph, self._item, (outcome,))

    def _flow(self, data: R, /) -> R:
        """Never called: keeps the type parameter invariant for checkers that infer it."""
        return data

    def __repr__(self) -> str:
        return f"<{self._item.name} of workflow {self._graph.name}>"


class NodeHandle(Accepts[Given[D]], Generic[D, O]):
    """A node of this workflow, which takes `D` and returns `O`."""

    __slots__ = ()
    _item: NodeItem

    @overload
    def on(self: NodeHandle[D, A], *actions: A) -> Branch[D]: ...
    @overload
    def on(self: NodeHandle[D, A | X], *actions: A) -> Branch[D]: ...
    @overload
    def on(self: NodeHandle[D, A | X | None], *actions: A) -> Branch[D]: ...
    @overload
    def on(self, *outcomes: type[X]) -> Branch[X]: ...
    def on(self, *matches: Any) -> Branch[Any]:
        """What goes on when the node returns one of these actions, or data of one of these classes.

        For an action the node's input event goes on, for a class what was returned. `Complete`, `Timeout`
        and `Failure` are outcomes of an inner workflow; `Failure` also of a node that failed for good: what it
        could not do goes on, in place of a dead letter.
        """
        return Branch(self._graph, self._item, matches)

    def to(self, *targets: Accepts[O] | End) -> None:
        """Where data that the node returns goes, unless its class has a route of its own."""
        _route(self._graph, self._item, None, targets)

    def _flow(self, data: D, output: O, /) -> tuple[D, O]:
        """Never called: keeps the type parameters invariant for checkers that infer them."""
        return data, output


def _route(graph: Graph, start: Start, match: tuple[object, ...] | None, targets: tuple[object, ...]) -> None:
    where = caller(2)
    destinations = tuple(_destination(graph, target) for target in targets if target is not None)
    if not targets:
        destinations = (Unknown("nothing"),)
    graph.routes.append(Route(start, match, destinations, where))


def _destination(graph: Graph, target: object) -> Destination:
    if target is Complete or target is Terminate:
        return target
    if not isinstance(target, Accepts):
        return Unknown(_describe(target))
    if target._graph is not graph:
        return Unknown(f"{target.name!r} of workflow {target._graph.name!r}")
    return target._item


def bindings(given: object) -> tuple[tuple[SourceItem | Unknown, SourceItem | Unknown], ...]:
    """`sources=` of a workflow that is a node: its own sources, and those of the outer workflow in their places."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        return ((Unknown(repr(given)), Unknown(repr(given))),)
    return tuple((_source_of(own), _source_of(outer)) for own, outer in given.items())


def _source_of(handle: object) -> SourceItem | Unknown:
    if isinstance(handle, SourceHandle) and isinstance(handle._start, SourceItem):
        return handle._start
    return Unknown(_describe(handle))


def _describe(target: object) -> str:
    if isinstance(target, JoinHandle):
        return f"{target.name!r}, which takes what `workflow.join` names, and nothing else"
    if isinstance(target, Branch):
        return f"{target._start.name!r}, which takes no events"
    if isinstance(target, type):
        return f"the class {target.__name__}"
    if isinstance(target, str):
        return repr(target)
    return f"the {type(target).__name__} object itself" if not callable(target) else f"the function {_called(target)}"


def _called(target: object) -> str:
    return str(getattr(target, "__name__", type(target).__name__))


def met_at(graph: Graph, branch: object) -> Met:
    """Where a branch of a join begins.

    Raises:
        HeadraceError: It is none of this graph.
    """
    if isinstance(branch, NodeHandle | JoinHandle) and branch._graph is graph:
        return branch._item, None
    if isinstance(branch, Branch) and branch._graph is graph and isinstance(branch._start, NodeItem | SourceItem):
        return branch._start, branch._match
    raise HeadraceError(f"workflow.join takes nodes, sources and joins of the same workflow, and not {branch!r}")
