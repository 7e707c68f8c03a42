"""What a workflow's author has written so far: parts and routes, with their lines; nothing is judged here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from typing_extensions import TypedDict

from headrace.workflows.actions import Complete, Terminate
from headrace.workflows.late import LatePolicy
from headrace.workflows.ports import Sink, Source
from headrace.workflows.retention import KEPT, Retention
from headrace.workflows.retry import Retry, WhenFull
from headrace.workflows.returns import Fault
from headrace.workflows.signature import Signature
from headrace.workflows.state_versions import Migrations

Fuse: TypeAlias = Literal["all"] | None
"""`"all"`: the whole graph runs inside the worker. None: an actor for each node, or group of fused ones."""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A line of the user's code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file.removeprefix(f'{Path.cwd()}/')}:{self.line}"


def caller(depth: int) -> Where:
    """The line that is being run `depth` frames above the function that asks."""
    frame = sys._getframe(depth + 1)
    return Where(frame.f_code.co_filename, frame.f_lineno)


class NodeKeywords(TypedDict, total=False):
    """Keywords of `Workflow.node`."""

    name: str | None
    """Identity of its state, so keep it. Default: the function's name, or the class's in snake case."""
    renamed_from: str | Sequence[str] | None
    """Its name in the version before, or its names in versions before: what is stored under them is its own."""
    migrations: Migrations | None
    """Version of its state -> function that makes the next one of it, from and to what JSON has (dict, list, ...).
    Its version is one more than the last of them, and 1 without any."""
    replicas: int
    """Actors that share its keys; default 1."""
    cpus: float
    """CPUs that Ray reserves for each of them; default 0: none."""
    gpus: float
    """The same for GPUs; fractions share one."""
    resources: Mapping[str, float] | None
    """The same for resources of your cluster."""
    retry: Retry | None
    """What to do when it fails."""
    timeout: timedelta | None
    """How long one call may take; then it is cancelled (an `async` node) or its process is replaced, and the event is a
    dead letter."""
    batch_size: int
    """Of a batch node: events in a batch, at most."""
    batch_delay: timedelta
    """Of a batch node: how long the first of them may wait for the others; default 0."""
    sources: Mapping[Any, Any] | None
    """Of a workflow: a source of it that it waits for -> the source of this workflow whose events it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The same, complete."""

    name: str | None = None
    replicas: int = 1
    cpus: float = 0
    gpus: float = 0
    resources: Mapping[str, float] | None = None
    retry: Retry | None = None
    timeout: timedelta | None = None
    batch_size: int = 0
    batch_delay: timedelta = timedelta(0)
    renamed_from: str | Sequence[str] | None = None
    migrations: Migrations | None = None
    sources: Any = None

    @property
    def former_names(self) -> tuple[str, ...]:
        """`renamed_from`, as a tuple."""
        return names_of(self.renamed_from)


def names_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """`renamed_from`, as a tuple."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


@dataclass(slots=True, eq=False)
class SourceItem:
    """One `workflow.source(...)`."""

    name: str
    where: Where
    source: Source[Any]
    late: LatePolicy = "new-run"
    """What becomes of events of runs that have ended."""


@dataclass(slots=True, eq=False)
class NodeItem:
    """One `workflow.node(...)`."""

    name: str
    where: Where
    user: Any
    """What was given: an instance of `Node` or `BatchNode`, a function, a `Workflow`."""
    options: NodeOptions
    signature: Signature | None
    """None: it could not be read (see `faults`), or it is a workflow."""
    faults: list[Fault] = field(default_factory=list)
    inner: bool = False
    """It is a workflow."""
    join: Join | None = None
    """It is a join."""
    feeds: NodeItem | None = None
    """It is a part of this join: drawn, and spoken of, as that."""
    scope: NodeItem | None = None
    """The workflow's node that it is inside of, in a graph with all workflows' nodes opened; see `composing`."""
    written: NodeItem | None = None
    """As it was written, of one inside; else it is that itself."""
    bound: tuple[tuple[SourceItem | Unknown, SourceItem | Unknown], ...] = ()
    """Sources of the workflow that it is, each with the one of the outer workflow that takes its place."""

    @property
    def maps(self) -> Graph | None:
        """Of the workflow that it runs for each item of an event, if it is such a `Map`."""
        found: Graph | None = getattr(self.user, "mapped_graph", None)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """What `workflow.join(...)` was given."""

    branches: tuple[Branching, ...]
    when: Any
    limit: Any


@dataclass(frozen=True, slots=True, eq=False)
class Branching:
    """One branch of a join."""

    name: str
    port: NodeItem
    """Where its results enter."""
    start: Start
    match: tuple[object, ...] | None
    """Actions or classes of `.on(...)`; None: data that has no route of its own."""


@dataclass(slots=True, eq=False)
class SinkItem:
    """One `workflow.sink(...)`."""

    name: str
    where: Where
    sink: Sink[Any]
    written: SinkItem | None = None
    """As for nodes."""


@dataclass(slots=True, eq=False)
class WaitItem:
    """One `workflow.wait(...)`."""

    name: str
    where: Where
    source: SourceItem
    timeout: Any
    """A `timedelta`, or None; checked when the workflow is."""
    scope: NodeItem | None = None
    """As for nodes."""
    renamed_from: Any = None
    """A name, several, or None; checked when the workflow is."""

    @property
    def former_names(self) -> tuple[str, ...]:
        """`renamed_from`, as a tuple."""
        return names_of(self.renamed_from)


@dataclass(slots=True, eq=False)
class TimeoutItem:
    """One `workflow.timeout(...)`."""

    name: str
    where: Where
    idle: Any
    total: Any
    """A `timedelta`, or None; checked when the workflow is."""
    scope: NodeItem | None = None
    """As for nodes."""


@dataclass(slots=True, eq=False)
class LettersItem:
    """All dead letters of the workflow: a start of routes to sinks."""

    where: Where
    name: str = "dead_letters"


Start: TypeAlias = SourceItem | NodeItem | WaitItem | TimeoutItem | LettersItem
"""Where a route may begin."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A target that is no part of this workflow."""

    text: str
    """How to name it in a message."""


Destination: TypeAlias = NodeItem | SinkItem | WaitItem | type[Complete] | type[Terminate] | Unknown


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One `.to(...)`: where something goes."""

    start: Start
    match: tuple[object, ...] | None
    """Actions or classes of `.on(...)`; None: what has no route of its own."""
    targets: tuple[Destination, ...]
    """Empty: it is dropped."""
    where: Where
    joins: bool = False
    """It leads into a join, beside the one that the user writes for the same thing."""


@dataclass(frozen=True, slots=True)
class Fused:
    """One `workflow.fuse(...)`."""

    nodes: tuple[NodeItem | Unknown, ...]
    where: Where


@dataclass(slots=True, eq=False)
class Graph:
    """A workflow as written."""

    name: str
    where: Where
    keyed: bool
    partitions: int | None
    state: Any
    fuse: Fuse
    migrations: Migrations | None = None
    """Of the state that its runs share."""
    letters_kept: Retention = KEPT
    """Which of its dead letters are kept."""
    parked_full: WhenFull = "pause"
    retention: timedelta = timedelta(days=1)
    """How long runs are remembered that have ended."""
    epoch_deadline: timedelta = field(default=timedelta(seconds=10), kw_only=True)
    """How long events wait for a node that can't answer."""
    id_retention: timedelta = field(default=timedelta(days=1), kw_only=True)
    """How long ids are known that senders have chosen."""
    reply_retention: timedelta = field(default=timedelta(days=1), kw_only=True)
    """How long answers to requests can be read."""
    callback: str | None = field(default=None, kw_only=True)
    """Address that is told what becomes of runs with which none came."""
    sources: list[SourceItem] = field(default_factory=list)
    nodes: list[NodeItem] = field(default_factory=list)
    sinks: list[SinkItem] = field(default_factory=list)
    waits: list[WaitItem] = field(default_factory=list)
    timeouts: list[TimeoutItem] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    fused: list[Fused] = field(default_factory=list)
    lost: dict[NodeItem, tuple[NodeItem, ...]] = field(default_factory=dict)
    """Where it is to be told that nothing came of an event: see `join_routes.with_joins`."""
    arrivals: dict[NodeItem, tuple[NodeItem, SourceItem]] = field(default_factory=dict)
    """By node where comes in what an inner run waits for: the wait's node, and the source; see `composing`."""
    inner_letters: dict[NodeItem, tuple[Route, ...]] = field(default_factory=dict)
    """Where dead letters of what is inside of a workflow's node go, by that node; see `composing`."""
    letters: LettersItem = field(default_factory=lambda: LettersItem(Where("", 0)))

    def __post_init__(self) -> None:
        self.letters.where = self.where

    def size(self) -> int:
        """Grows with everything that is added: a plan made before is out of date."""
        return sum(graph.own_size() for graph in self.with_inner())

    def own_size(self) -> int:
        """The same, without the workflows that are its nodes."""
        parts = (self.sources, self.nodes, self.sinks, self.waits, self.timeouts, self.routes, self.fused)
        return sum(len(part) for part in parts)

    def with_inner(self) -> list[Graph]:
        """Itself and the graphs of all workflows inside it, each once."""
        found: list[Graph] = [self]
        for graph in found:  # grows meanwhile
            inner = [node.user._graph for node in graph.nodes if node.inner]
            inner += [node.maps for node in graph.nodes if node.maps is not None]
            found += [other for other in dict.fromkeys(inner) if other not in found]
        return found

    def routes_of(self, start: Start) -> list[Route]:
        """Routes that begin at `start`, in the order they were written."""
        return [route for route in self.routes if route.start is start]
