"""From a checked graph to a plan: everything resolved to numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from headrace.workflows.actions import Complete, Failure, Terminate, Timeout
from headrace.workflows.codec import encode_json, json_codec
from headrace.workflows.composing import chain, inside, is_door, opened
from headrace.workflows.errors import HeadraceError
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Destination, Fuse, Graph, NodeItem, Route, SinkItem, TimeoutItem, WaitItem
from headrace.workflows.immutable import deeply_immutable
from headrace.workflows.inner_places import Entry, InnerTimeout, InnerWait, doorway
from headrace.workflows.join_routes import with_joins
from headrace.workflows.joins import sign_joins
from headrace.workflows.mapping import Map
from headrace.workflows.nodes import BatchNode, Node
from headrace.workflows.plan import (
    COMPLETE,
    SINK,
    TERMINATE,
    TIMED_OUT,
    WAITS,
    DataType,
    FailurePlan,
    NodePlan,
    Plan,
    ScopePlan,
    SinkPlan,
    SourcePlan,
    StandPlan,
    Target,
    TimeoutPlan,
    WaitPlan,
)  # fmt: skip
from headrace.workflows.regions import regions_of
from headrace.workflows.routing import routing_of
from headrace.workflows.state_versions import versioned_codec
from headrace.workflows.timers import IDLE, TOTAL, TimerFiring, whole_milliseconds
from headrace.workflows.units import edges_of, units_of

_IN: Final = 1
"""Route number of a door by which events come in: 0 is that of its time limit."""


def compile_graph(graph: Graph, fuse: Fuse) -> Plan:
    """The plan of a graph in which `problems_of` found nothing."""
    for each in graph.with_inner():
        sign_joins(each)
    graph = opened(with_joins(graph))
    compiler = _Compiler(graph)
    sources = tuple(compiler.source(index) for index in range(len(graph.sources)))
    nodes = tuple(compiler.node(index) for index in range(len(graph.nodes)))
    sinks = tuple(
        SinkPlan(
            index, item.name, item.sink, compiler.types.number(item.sink.type), item.sink.max_bytes,
            written=item.written or item,
        )
        for index, item in enumerate(graph.sinks)
    )  # fmt: skip
    scopes = tuple(compiler.scope(index) for index in range(len(compiler.doors)))
    timeouts = tuple(compiler.timeout(item) for item in graph.timeouts)
    sets_timers = any(node.on_timer for node in nodes)
    units, unit_of = units_of(graph, nodes, fuse)
    starts = [row.targets for row in sources] + [row.targets for row in timeouts]
    ends = any(node.may_end for node in nodes) or any(map(_ends, starts))
    waits = tuple(compiler.wait(index) for index in range(len(graph.waits)))
    ends = ends or any(_ends(row.targets + row.over) for row in waits)
    stands = tuple(compiler.stand(item) for item in graph.arrivals)
    serial = graph.state is not None or ends or sets_timers or bool(waits) or bool(scopes)
    singly = bool(waits) or bool(stands) or any(map(_ends, starts))
    regions, region_of = regions_of(edges_of(nodes, unit_of), len(units), whole=serial, singly=singly)
    firing_type = compiler.types.number(TimerFiring) if sets_timers else -1
    return Plan(
        name=graph.name,
        keyed=graph.keyed,
        partitions=graph.partitions,
        types=tuple(compiler.types.rows),
        sources=sources,
        nodes=nodes,
        sinks=sinks,
        units=units,
        unit_of=unit_of,
        regions=regions,
        region_of=region_of,
        run_state=None if graph.state is None else versioned_codec(graph.state, graph.migrations),
        serial=serial,
        timeouts=timeouts,
        firing_type=firing_type,
        waits=waits,
        awaited=frozenset([row.source for row in waits] + [row.source for row in stands]),
        messages=frozenset(row.index for row in sources if row.source.kind == "messages"),
        retention=graph.retention // timedelta(milliseconds=1),
        id_retention=graph.id_retention // timedelta(milliseconds=1),
        reply_retention=graph.reply_retention // timedelta(milliseconds=1),
        callback=graph.callback or "",
        letters_kept=graph.letters_kept,
        parked_full=graph.parked_full,
        epoch_deadline=graph.epoch_deadline / timedelta(seconds=1),
        letter_sinks=compiler.letters(graph.routes_of(graph.letters)),
        scopes=scopes,
        stands=stands,
        urgent=frozenset(index for index, item in enumerate(graph.nodes) if _is_urgent(item)),
    )


class _Types:
    """Types of data that travel, numbered as they are met."""

    def __init__(self) -> None:
        self.rows: list[DataType] = []

    def number(self, data_type: Any) -> int:
        for row in self.rows:
            if row.type is data_type or row.type == data_type:
                return row.number
        number = len(self.rows)
        self.rows.append(DataType(number, data_type, json_codec(data_type), deeply_immutable(data_type)))
        return number


class _Routes:
    """Route numbers of one node: equal targets have one."""

    def __init__(self, compiler: _Compiler) -> None:
        self.rows: list[tuple[Target, ...]] = []
        self._compiler = compiler

    def number(self, route: Route) -> int:
        return self.place(self._compiler.targets(route))

    def place(self, targets: tuple[Target, ...]) -> int:
        """The number of these targets."""
        if targets not in self.rows:
            self.rows.append(targets)
        return self.rows.index(targets)


class _Compiler:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = _Types()
        self._nodes = {item: index for index, item in enumerate(graph.nodes)}
        self.doors = [item for item in graph.nodes if item.inner]
        self._scopes = {item: index for index, item in enumerate(self.doors)}
        self._sinks = {item: index for index, item in enumerate(graph.sinks)}
        self._waits = {item: index for index, item in enumerate(graph.waits)}

    def targets(self, route: Route) -> tuple[Target, ...]:
        return tuple(self._target(target) for target in route.targets)

    def _target(self, target: Destination) -> Target:
        if isinstance(target, NodeItem):
            return self._nodes[target]
        if isinstance(target, SinkItem):
            return SINK + self._sinks[target]
        if isinstance(target, WaitItem):
            return WAITS - self._waits[target]
        if target is Complete:
            return COMPLETE
        if target is Terminate:
            return TERMINATE
        raise HeadraceError(f"{target!r} can't be compiled; this is a mistake in Headrace's own checks")

    def letters(self, routes: Iterable[Route]) -> tuple[int, ...]:
        """Sinks that dead letters go to."""
        return tuple(target - SINK for route in routes for target in self.targets(route))

    def source(self, index: int) -> SourcePlan:
        item = self.graph.sources[index]
        targets = tuple(target for route in self.graph.routes_of(item) for target in self.targets(route))
        source = item.source
        number = self.types.number(source.type)
        return SourcePlan(
            index, item.name, source, number, source.key, targets, time=source.time, tombstones=source.tombstones,
            late=item.late,
        )  # fmt: skip

    def node(self, index: int) -> NodePlan:
        item = self.graph.nodes[index]
        return self._door(index, item) if item.inner else self._node(index, item)

    def _door(self, index: int, item: NodeItem) -> NodePlan:
        """The node by which events come to a workflow that is a node."""
        graph = inside(item)
        ways: dict[Any, tuple[Target, ...]] = {Entry.IN: ()}
        for route in self.graph.routes_of(item):
            if is_door(route):
                for match in route.match or ():
                    ways[match] = ways.get(match, ()) + self.targets(route)
        timeout = item.options.timeout
        return NodePlan(
            index=index,
            name=item.name,
            instance=None,
            process=doorway([match for match in ways if match is not Entry.IN]),
            is_async=False,
            is_batch=False,
            state=None if graph.state is None else versioned_codec(graph.state, graph.migrations),
            routes=((TIMED_OUT,), *ways.values()),
            actions={match: index for index, match in enumerate(ways, start=_IN)},
            outputs={} if timeout is None else {Timeout: 0},
            default=None,
            types={} if timeout is None else {Timeout: self.types.number(Timeout)},
            may_end=False,
            where=str(item.where),
            renamed_from=item.options.former_names,
            on_timer=None if timeout is None else lambda timer, ctx: Timeout(timeout),
            scope=self._scopes[item],
            written=item.written or item,
        )

    def scope(self, index: int) -> ScopePlan:
        """What the runs of a workflow that is a node lead to."""
        door = self.doors[index]
        routing = routing_of(door, Findings(self.graph))
        complete, timeout = routing.classes.get(Complete), routing.classes.get(Timeout)
        return ScopePlan(
            index=index,
            name=door.name,
            door=self._nodes[door],
            nodes=tuple(self._nodes[item] for item in self.graph.nodes if door in chain(item.scope)),
            parent=-1 if door.scope is None else self._scopes[door.scope],
            complete=() if complete is None else self.targets(complete),
            failure=None if routing.failure is None else self.targets(routing.failure),
            timeout=() if timeout is None else self.targets(timeout),
            marks=_IN if any(item.join is not None for item in inside(door).nodes) else -1,
            letters=self.letters(self.graph.inner_letters.get(door, ())),
            types=(self.types.number(Complete), self.types.number(Failure), self.types.number(Timeout)),
            lasts=None if door.options.timeout is None else whole_milliseconds(door.options.timeout),
            times=tuple(
                (item.name, item.user.kind, whole_milliseconds(item.user.after))
                for item in self.graph.nodes
                if item.scope is door and isinstance(item.user, InnerTimeout)
            ),
        )

    def stand(self, arrival: NodeItem) -> StandPlan:
        """A wait inside, by the node where comes in what it is for."""
        wait, source = self.graph.arrivals[arrival]
        return StandPlan(wait.name, self._nodes[arrival], self.graph.sources.index(source))

    def _node(self, index: int, item: NodeItem) -> NodePlan:
        signature, options = item.signature, item.options
        assert signature is not None
        user, process = item.user, signature.process
        if item.maps is not None:
            user = user.runs_of(compile_graph(item.maps, "all"), self.graph.name, item.name)
            process = user.process
        routing = routing_of(item, Findings(self.graph))
        routes = _Routes(self)
        default = None if routing.default is None else routes.number(routing.default)
        actions: dict[Enum, int] = {
            action: routes.number(routing.actions[action]) for action in signature.returns.actions
        }
        outputs: dict[type, int] = {}
        types: dict[type, int] = {}
        for cls, data_type in routing.classes_of(signature).items():
            types[cls] = self.types.number(data_type)
            route = routing.route_of(cls)
            if route is not None and route is not routing.default:
                outputs[cls] = routes.number(route)
            elif route is None and isinstance(item.user, InnerWait | InnerTimeout):
                outputs[cls] = routes.place((TIMED_OUT,))
        failure: FailurePlan | None = None
        if routing.failure is not None and not item.inner:
            failure = FailurePlan(routes.number(routing.failure), self.types.number(Failure))
            if item.join is not None:  # it gives them itself, too
                types[Failure], outputs[Failure] = failure.type, failure.route
        nothing: int | None = None
        if item in self.graph.lost:
            lost = routes.place(tuple(map(self._target, self.graph.lost[item])))
            nothing = None if item.join is not None else lost
            failure = failure or FailurePlan(lost, self.types.number(Failure), letter=True)
        shared = self.graph.state if item.scope is None else inside(item.scope).state
        run_state = shared is not None and signature.run_state is not None
        ends = bool(signature.returns.ends) or any(_ends(targets) for targets in routes.rows)
        return NodePlan(
            index=index,
            name=item.name,
            instance=user if isinstance(user, (Node, BatchNode)) else None,
            process=process,
            is_async=signature.is_async,
            is_batch=signature.is_batch,
            state=None if signature.state is None else versioned_codec(signature.state, options.migrations),
            routes=tuple(routes.rows),
            actions=actions,
            outputs=outputs,
            default=default,
            types=types,
            may_end=ends and item.scope is None,
            uses_run_state=run_state,
            replicas=options.replicas,
            batch_size=options.batch_size,
            batch_delay=options.batch_delay,
            timeout=options.timeout,
            retry=options.retry,
            resources={"num_cpus": options.cpus, "num_gpus": options.gpus, **(options.resources or {})},
            takes=self._takes(item, signature.takes),
            where=str(item.where),
            renamed_from=options.former_names,
            failure=failure,
            nothing=nothing,
            on_timer=getattr(item.user, "on_timer", None) if signature.sets_timers else None,
            scope=-1 if item.scope is None else self._scopes[item.scope],
            written=item.written or item,
        )

    def _takes(self, item: NodeItem, data_type: Any) -> int:
        """Number of what a node takes that can be executed by itself: one of the user's, with no other inside."""
        if item.scope is not None or item.join is not None or item.feeds is not None or isinstance(item.user, Map):
            return -1
        try:
            return self.types.number(data_type)
        except HeadraceError:  # a union that JSON text does not tell apart: in line each event comes with its own type
            return -1

    def wait(self, index: int) -> WaitPlan:
        item = self.graph.waits[index]
        targets: tuple[Target, ...] = ()
        over: tuple[Target, ...] = (TIMED_OUT,)
        for route in self.graph.routes_of(item):
            if route.match is None:
                targets = self.targets(route)
            else:
                over = self.targets(route)
        after, data, type = None, b"null", -1
        if item.timeout is not None:
            after, data = whole_milliseconds(item.timeout), encode_json(Timeout(item.timeout))
            type = self.types.number(Timeout)
        source = self.graph.sources.index(item.source)
        over = over if after is not None else ()
        return WaitPlan(index, item.name, source, targets, after, data, type, over, item.former_names)

    def timeout(self, item: TimeoutItem) -> TimeoutPlan:
        kind, after = (IDLE, item.idle) if item.idle is not None else (TOTAL, item.total)
        assert after is not None
        routes = self.graph.routes_of(item)
        targets = tuple(target for route in routes for target in self.targets(route)) if routes else (TIMED_OUT,)
        data = encode_json(Timeout(after))
        return TimeoutPlan(kind, whole_milliseconds(after), data, self.types.number(Timeout), targets)


def _is_urgent(item: NodeItem) -> bool:
    user = item.user
    return isinstance(user, InnerWait) or (isinstance(user, InnerTimeout) and user.kind == TOTAL)


def _ends(targets: tuple[Target, ...]) -> bool:
    return not {COMPLETE, TERMINATE, TIMED_OUT}.isdisjoint(targets)
