"""`Workflow`: puts sources, nodes and sinks together, checks the graph, compiles it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, overload

from typing_extensions import TypeVar, Unpack

from headrace.workflows.actions import Timeout
from headrace.workflows.context import Context
from headrace.workflows.errors import HeadraceError, Problem, WorkflowError
from headrace.workflows.events import Event
from headrace.workflows.graph import (
    Fused,
    Graph,
    NodeItem,
    NodeKeywords,
    NodeOptions,
    SinkItem,
    SourceItem,
    TimeoutItem,
    Unknown,
    WaitItem,
    caller,
)  # fmt: skip
from headrace.workflows.handles import (
    Branch,
    DeadLettersHandle,
    JoinHandle,
    NodeHandle,
    SinkHandle,
    SourceHandle,
    TimeoutHandle,
    WaitHandle,
    bindings,
    met_at,
)  # fmt: skip
from headrace.workflows.joining import Joined
from headrace.workflows.joins import add_join
from headrace.workflows.late import LatePolicy
from headrace.workflows.names import default_name
from headrace.workflows.nodes import BatchNode, Node
from headrace.workflows.plan import Plan
from headrace.workflows.ports import Sink, Source, port_name
from headrace.workflows.retention import KEPT, Retention
from headrace.workflows.retry import WhenFull
from headrace.workflows.signature import read_signature
from headrace.workflows.state_versions import Migrations

if TYPE_CHECKING:
    from headrace.workflows.draw import Outline

D = TypeVar("D")
S = TypeVar("S")
O = TypeVar("O")  # noqa: E741  read as "output"
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E")
Meeting: TypeAlias = NodeHandle[Any, D] | Branch[D] | JoinHandle[D]
"""What may be a branch of a join."""
When: TypeAlias = Literal["all", "any"] | int


class Workflow:
    """A graph of sources, nodes and sinks, with its policies.

    Building only records; `compile` (which every way of running it calls) checks everything at once.

    Examples:
        >>> from headrace import ChannelSource, Context, Event, Workflow
        >>> def shout(event: Event[str], ctx: Context) -> None:
        ...     print(event.data.upper())
        >>> workflow = Workflow("greetings", keyed=False)
        >>> greetings = workflow.source(ChannelSource(str, capacity=10))
        >>> greetings.to(workflow.node(shout))
        >>> workflow.check()
        []
    """

    def __init__(  # noqa: PLR0913  each of them is something that a workflow may say
        self,
        name: str,
        *,
        state: Any = None,
        keyed: bool = True,
        partitions: int | None = None,
        fuse: Literal["all"] | None = None,
        migrations: Migrations | None = None,
        dead_letters: Retention = KEPT,
        parked_full: WhenFull = "pause",
        retention: timedelta = timedelta(days=1),
        epoch_deadline: timedelta = timedelta(seconds=10),
        id_retention: timedelta = timedelta(days=1),
        reply_retention: timedelta = timedelta(days=1),
        callback: str | None = None,
    ) -> None:
        """Start an empty workflow.

        Args:
            name: Lower-case letters, digits, `.`, `_`, `-`. Part of all keys and addresses, so keep it.
            state: Type of a state that the nodes of a run share (`ctx.run.state`); then a run's events are
                processed strictly one after the other.
            keyed: False: a single run, without keys.
            partitions: Shares of the key space, fixed at first deploy. Default: as many as the topic has, else 32.
            fuse: `"all"`: run all nodes inside the worker, none in an actor of its own.
            migrations: Version of `state` -> function that makes the next one of it; see `NodeKeywords`.
            parked_full: What is done while as many events of a partition (or key) stand still, to be tried again, as
                may: take no more from the sources until some have gone on, or make dead letters of the oldest.
            dead_letters: How long, and how many, dead letters are kept: a week, 10,000 or 64 MiB of a partition.
            retention: How long an ended run's outcome can be read, and its events are late (`source`). Default: a day.
            epoch_deadline: How long events wait, together with what came with them, for a node whose process is away,
                or for a slow `async` one; then they stand still there, durably, and the others go on. Default: 10 s.
            id_retention: How long ids that senders choose are known: what comes again is no other one. Default: a day.
            reply_retention: How long the answer to a request can be read. Default: a day.
            callback: Address (`https://`) that is told when a run waits, ends, or gives an event up, wherever its
                events came from; a request's header `Headrace-Callback` takes its place for that run.
        """
        self._graph = Graph(
            name, caller(1), keyed, partitions, state, fuse, migrations, dead_letters, parked_full, retention,
            epoch_deadline=epoch_deadline, id_retention=id_retention, reply_retention=reply_retention,
            callback=callback,
        )  # fmt: skip
        self._plans: dict[str | None, tuple[int, Plan]] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return self._graph.name

    @property
    def dead_letters(self) -> DeadLettersHandle:
        """What could not be processed: `workflow.dead_letters.to(sink)` sends each of it to a sink, too.

        The sink takes `DeadLetterMessage`. They leave as other outputs do, in the commit in which they stopped.
        """
        return DeadLettersHandle(self._graph)

    def source(self, source: Source[D], /, *, late: LatePolicy = "new-run") -> SourceHandle[D]:
        """Take events from `source`.

        Args:
            source: Where they come from.
            late: What is done with an event whose run has ended, as long as that is remembered (`retention=`): it
                begins the next run of the key (`"new-run"`); it becomes a dead letter with reason `late`, which begins
                one if it is replayed (`"dead-letter"`); or it is dropped (`"drop"`).
        """
        item = SourceItem(port_name(source), caller(1), source, late)
        self._graph.sources.append(item)
        if isinstance(source, Source):
            source.bind(self.name)
        return SourceHandle(self._graph, item)

    def sink(self, sink: Sink[D], /) -> SinkHandle[D]:
        """Let events leave to `sink`."""
        item = SinkItem(port_name(sink), caller(1), sink)
        self._graph.sinks.append(item)
        return SinkHandle(self._graph, item)

    @overload
    def node(
        self, node: Node[D, S, O] | BatchNode[D, S, O], /, **options: Unpack[NodeKeywords]
    ) -> NodeHandle[D, O]: ...
    @overload
    def node(
        self,
        function: Callable[[Event[D], Context[S, R]], Coroutine[Any, Any, O]],
        /,
        **options: Unpack[NodeKeywords],
    ) -> NodeHandle[D, O]: ...
    @overload
    def node(
        self, function: Callable[[Event[D], Context[S, R]], O], /, **options: Unpack[NodeKeywords]
    ) -> NodeHandle[D, O]: ...
    @overload
    def node(
        self,
        inner: Workflow,
        /,
        *,
        name: str | None = None,
        renamed_from: str | Sequence[str] | None = None,
        timeout: timedelta | None = None,
        sources: Mapping[SourceHandle[Any], SourceHandle[Any]] | None = None,
    ) -> NodeHandle[Any, Any]: ...
    def node(self, user: Any, /, **options: Unpack[NodeKeywords]) -> NodeHandle[Any, Any]:
        """Add a node: an instance of `Node` or `BatchNode`, a function, or another workflow.

        Of a workflow that is a node the outcomes go on: `.on(Complete)`, and `.on(Failure)` for its `Terminate` and for
        what fails inside, `.on(Timeout)` for its times. It has one source by which events come in, whose type is what
        the node takes; sources of messages are this workflow's, too. Its own states begin anew after each of its ends.

        Args:
            user: The node.
            **options: Name and policies, see `NodeKeywords`; checked when the workflow is.
        """
        where = caller(1)
        settings = NodeOptions(**options)
        chosen = settings.name or (user.name if isinstance(user, Workflow) else default_name(user))
        if isinstance(user, Workflow):
            item = NodeItem(chosen, where, user, settings, None, inner=True, bound=bindings(settings.sources))
        else:
            signature, faults = read_signature(user, chosen, sys._getframe(1).f_locals)
            item = NodeItem(chosen, where, user, settings, signature, faults)
        self._graph.nodes.append(item)
        return NodeHandle(self._graph, item)

    @overload
    def join(
        self,
        first: Meeting[A],
        second: Meeting[B],
        /,
        *,
        when: When = "all",
        limit: int = 1000,
        name: str | None = None,
    ) -> JoinHandle[Joined[tuple[A | None, B | None]]]: ...
    @overload
    def join(
        self,
        first: Meeting[A],
        second: Meeting[B],
        third: Meeting[C],
        /,
        *,
        when: When = "all",
        limit: int = 1000,
        name: str | None = None,
    ) -> JoinHandle[Joined[tuple[A | None, B | None, C | None]]]: ...
    @overload
    def join(
        self,
        first: Meeting[A],
        second: Meeting[B],
        third: Meeting[C],
        fourth: Meeting[E],
        /,
        *,
        when: When = "all",
        limit: int = 1000,
        name: str | None = None,
    ) -> JoinHandle[Joined[tuple[A | None, B | None, C | None, E | None]]]: ...
    @overload
    def join(
        self, first: Meeting[Any], second: Meeting[Any], third: Meeting[Any], fourth: Meeting[Any],
        fifth: Meeting[Any], /, *more: Meeting[Any], when: When = "all", limit: int = 1000, name: str | None = None,
    ) -> JoinHandle[Joined[Any]]: ...  # fmt: skip
    def join(
        self, *branches: Meeting[Any], when: When = "all", limit: int = 1000, name: str | None = None
    ) -> JoinHandle[Any]:
        """A place where branches meet again: what came of one event of a source goes on together, once.

        Args:
            *branches: Nodes, or what of them (`check.on(Score)`), sources, other joins: what they give goes here, too.
            when: `"all"`: once each branch has given something or has failed. `"any"`, or a number: as soon as so many
                have given something; a `Failure` (`.on(Failure)`) once so many can't any more.
            limit: Events of which something is here and something missing, for each run: beyond it the oldest is not
                waited for any longer.
            name: Identity of its state, so keep it. Default: made of the branches' names.

        A branch that fails for good, or in which nothing goes on, has failed. What goes on is a `Joined`.
        """
        met = [met_at(self._graph, branch) for branch in branches]
        item = add_join(self._graph, met, when, limit, name, caller(1))
        return JoinHandle(self._graph, item)

    def fuse(self, *nodes: NodeHandle[Any, Any] | JoinHandle[Any]) -> None:
        """Put nodes into one actor: events pass between them without leaving it."""
        items = tuple(
            node._item
            if isinstance(node, NodeHandle | JoinHandle) and node._graph is self._graph
            else Unknown(repr(node))
            for node in nodes
        )
        self._graph.fused.append(Fused(items, caller(1)))

    def wait(
        self, stream: SourceHandle[D], /, *, timeout: timedelta | None = None, name: str | None = None,
        renamed_from: str | Sequence[str] | None = None,
    ) -> WaitHandle[D]:  # fmt: skip
        """A place where a run stands until its next event of `stream` comes.

        What is routed to it brings the run there; from then on the run's next event of that source goes on from the
        wait, whatever the source's own route. A run stands at one wait at a time. Messages (`MessageSource`) for a
        wait that it has not reached yet are kept until it does. Then one event of a run at a time is in the graph.

        Args:
            stream: A source of this workflow.
            timeout: So long it stands there at most (a millisecond to ten years): then an event with data `Timeout`
                goes on by `.on(Timeout)`; without that route, the run ends as timed out.
            name: Where runs stand is kept under it, so keep it. Default: the source's name.
            renamed_from: The name, or names, that it had: runs that stand there go on from here.
        """
        start = stream._start
        if stream._graph is not self._graph or not isinstance(start, SourceItem):
            raise HeadraceError("workflow.wait takes a source of the same workflow, as workflow.source gave it")
        item = WaitItem(name or start.name, caller(1), start, timeout, renamed_from=renamed_from)
        self._graph.waits.append(item)
        return WaitHandle(self._graph, item)

    def timeout(self, *, idle: timedelta | None = None, total: timedelta | None = None) -> TimeoutHandle[Timeout]:
        """What happens to runs that had no event for `idle`, or are older than `total`.

        Its event, with data `Timeout`, goes on by `.to(...)`: the run ends only if that leads to `Complete` or
        `Terminate`. Without a route it ends, as timed out. The run of an unkeyed workflow begins with the workflow.
        A run is told once for each time that it is idle. None of it comes because we were away, or had not read
        on: what sources had by then comes first.

        Args:
            idle: A millisecond to ten years; or
            total: The same.
        """
        item = TimeoutItem("timeout", caller(1), idle, total)
        self._graph.timeouts.append(item)
        return TimeoutHandle(self._graph, item)

    def check(self, *, fuse: Literal["all"] | None = None, now: datetime | None = None) -> list[Problem]:
        """Everything that is wrong with the workflow, in the order of its lines; [] if it can run.

        Args:
            fuse: As for `compile`.
            now: As for `compile`.
        """
        from headrace.workflows.validate import problems_of  # noqa: PLC0415  not needed to build

        return problems_of(self._graph, fuse or self._graph.fuse, now or datetime.now(UTC))

    def compile(self, *, fuse: Literal["all"] | None = None, now: datetime | None = None) -> Plan:
        """The plan that is run; made once.

        Args:
            fuse: `"all"`: with all nodes inside the worker, whatever the workflow says.
            now: The time (aware) that is compared with times in the workflow, which must not be past; default: the
                clock's.

        Raises:
            WorkflowError: There are problems: all of them, each with its line and a cure.
        """
        from headrace.workflows.compiler import compile_graph  # noqa: PLC0415  not needed to build

        chosen = fuse or self._graph.fuse
        size, plan = self._plans.get(chosen, (-1, None))
        if plan is None or size != self._graph.size():
            problems = self.check(fuse=fuse, now=now)
            if problems:
                raise WorkflowError(self.name, problems)
            plan = compile_graph(self._graph, chosen)
            self._plans[chosen] = (self._graph.size(), plan)
        return plan

    def mermaid(self) -> str:
        """The graph as a Mermaid flow chart."""
        from headrace.workflows.draw import mermaid  # noqa: PLC0415  not needed to build

        return mermaid(self._graph)

    def graphviz(self) -> str:
        """The graph in Graphviz' dot language."""
        from headrace.workflows.draw import graphviz  # noqa: PLC0415  not needed to build

        return graphviz(self._graph)

    def outline(self) -> Outline:
        """The graph as plain data: its parts, and the ways between them."""
        from headrace.workflows.draw import outline  # noqa: PLC0415  not needed to build

        return outline(self._graph)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a notebook shows of it: its graph."""
        from headrace.workflows.draw import svg  # noqa: PLC0415  not needed to build

        del include, exclude  # the notebook leaves out by itself what it can't show
        chart = self.mermaid()
        bundle = {"text/plain": repr(self), "text/vnd.mermaid": chart}
        picture = svg(chart)
        if picture is not None:
            bundle["image/svg+xml"] = picture
        return bundle

    def __repr__(self) -> str:
        graph = self._graph
        return (
            f"<workflow {graph.name}: {len(graph.sources)} sources, {len(graph.nodes)} nodes, {len(graph.sinks)} sinks>"
        )

    def __reduce__(self) -> NoReturn:
        raise HeadraceError(
            f"workflow {self.name!r} is imported by name (module:variable) in every process, never pickled:"
            " save it to a file, and give its name"
        )
