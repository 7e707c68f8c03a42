"""Checks workflows that are nodes: that they can be one, that their outcomes have routes, and all that is inside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from headrace.workflows.actions import Complete, Failure, Terminate, Timeout
from headrace.workflows.codec import type_name
from headrace.workflows.compatible import accepts
from headrace.workflows.composing import inlets, inside, is_messages, ways_in
from headrace.workflows.errors import Problem
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Fuse, Graph, NodeItem, SourceItem, TimeoutItem, Unknown, WaitItem
from headrace.workflows.plan import BETWEEN
from headrace.workflows.routing import Routing, written
from headrace.workflows.validate_times import duration_problem


def check_inner(findings: Findings, routings: dict[NodeItem, Routing], fuse: Fuse, now: datetime) -> None:
    """All nodes that are workflows; what is inside of one that is used twice is checked once."""
    seen: list[Graph] = []
    for node in findings.graph.nodes:
        if not node.inner:
            if node.options.sources is not None:
                cure = "Leave it out: route the sources to the node"
                findings.add(node.where, node.name, "inner", "sources= is for nodes that are workflows", cure)
            continue
        graph = inside(node)
        if findings.graph in graph.with_inner():
            message = f"the workflow {graph.name!r} is inside itself"
            findings.add(node.where, node.name, "inner", message, "Route back to one of its nodes, or take it out")
            continue
        _check_source(findings, node, graph)
        _check_bound(findings, node, graph)
        _check_messages(findings, node)
        _check_outcomes(findings, node, graph, routings[node])
        if graph not in seen:
            seen.append(graph)
            _check_inside(findings, node, graph, fuse, now)


def takes(node: NodeItem) -> Any:
    """Type of the data that a workflow takes as a node; None where that can't be said."""
    sources = ways_in(node)
    return getattr(sources[0].source, "type", None) if len(sources) == 1 else None


def _check_source(findings: Findings, node: NodeItem, graph: Graph) -> None:
    sources = ways_in(node)
    if len(sources) != 1:
        count, names = len(sources) or "no", ", ".join(source.name for source in sources)
        message = (
            f"the workflow {graph.name!r} has {count} sources{': ' * bool(names)}{names}; as a node it has one way in"
        )
        cure = "Give it one source, whose type is that of the events that it takes"
        if sources:
            cure += f"; for one that it only waits for, write sources={{{names.rpartition(', ')[2]}: ...}}"
        findings.add(node.where, node.name, "inner", message, cure)


def _check_bound(findings: Findings, node: NodeItem, graph: Graph) -> None:
    """`sources=`: sources of the workflow that it only waits for, each with one of the outer workflow."""

    def wrong(message: str, cure: str) -> None:
        findings.add(node.where, node.name, "inner", message, cure)

    for own, outer in node.bound:
        if isinstance(own, Unknown) or own not in graph.sources:
            name = own.text if isinstance(own, Unknown) else repr(own.name)
            cure = f"Write sources={{source of {graph.name!r}: source of {findings.graph.name!r}}}"
            wrong(f"sources= names {name}, which is no source of the workflow {graph.name!r}", cure)
            continue
        if isinstance(outer, Unknown) or outer not in findings.graph.sources:
            name = outer.text if isinstance(outer, Unknown) else repr(outer.name)
            cure = f"Name what {findings.graph.name}.source(...) gave back"
            wrong(f"sources= gives {own.name} the events of {name}, which is no source of this workflow", cure)
            continue
        _check_same(findings, node, own, outer)
        for route in graph.routes_of(own):
            cure = "Wait for it: workflow.wait(...), and take the route out; or let it be the one source that is routed"
            message = f"{own.name} is among its sources=, and what comes of those goes on from waits only"
            findings.add(route.where, node.name, "inner", message, cure)
    for inner in graph.nodes:
        for _, middle in inner.bound:
            if middle in ways_in(node):
                message = f"{inner.name} waits for events of {middle.name}, which come in by {node.name} itself"
                wrong(message, f"Route them to {inner.name}: what comes in while it waits goes on from its wait")


def _check_same(findings: Findings, node: NodeItem, own: SourceItem, outer: SourceItem) -> None:
    """What is waited for is of the type that the wait gives."""
    wanted, given = getattr(own.source, "type", Any), getattr(outer.source, "type", Any)
    if not accepts(wanted, given):
        message = f"{outer.name} gives {type_name(given)}, but {own.name} of it is a source of {type_name(wanted)}"
        findings.add(node.where, node.name, "type", message, f"Give it a source of {type_name(wanted)}")


def _check_messages(findings: Findings, node: NodeItem) -> None:
    """Sources of messages inside are those of the outer workflow that have their names."""
    others = [source for other in findings.graph.nodes if other.inner and other is not node for source in inlets(other)]
    for source in inlets(node):
        for outer in [*findings.graph.sources, *others]:
            if outer.name != source.name or outer is source:
                continue
            if is_messages(outer):
                _check_same(findings, node, source, outer)
            else:
                message = f"its messages are called {source.name!r}, as is another source of this workflow"
                findings.add(node.where, node.name, "duplicate-name", message, "Give one of them another name='...'")


def _check_outcomes(findings: Findings, node: NodeItem, graph: Graph, routing: Routing) -> None:
    """Each way in which the workflow ends has a route, and each route an end that takes it."""
    if routing.default is not None:
        message = "`.to(...)` takes data that a node returns, and a workflow has outcomes only"
        cure = f"Write {node.name}.on(Complete).to(...)"
        findings.add(routing.default.where, node.name, "never-returned", message, cure)
    ends = outcomes_of(graph)
    times = _over(graph)
    for outcome, route in ((Complete, routing.classes.get(Complete)), (Failure, routing.failure)):
        if outcome in ends and route is None:
            what = "Complete" if outcome is Complete else "Terminate, which arrives as Failure"
            message = f"the workflow {graph.name!r} may end by {what}; that has no route"
            cure = f"Add: {node.name}.on({written(outcome)}).to(...), or .to(None) to drop it"
            findings.add(node.where, node.name, "no-route", message, cure)
    _check_timeout(findings, node, routing, times)
    complete = routing.classes.get(Complete)
    if complete is not None and Complete not in ends:
        message = f"nothing in the workflow {graph.name!r} returns Complete, or is routed to it"
        findings.add(complete.where, node.name, "never-returned", message, "Take the route out")


def _over(graph: Graph) -> list[WaitItem | TimeoutItem]:
    """Time-outs, also of waits, that have no route: by them a run ends as timed out."""
    found: list[WaitItem | TimeoutItem] = [item for item in graph.timeouts if not graph.routes_of(item)]
    for wait in graph.waits:
        if wait.timeout is not None and not any(Timeout in (route.match or ()) for route in graph.routes_of(wait)):
            found.append(wait)
    return found


def _check_timeout(
    findings: Findings, node: NodeItem, routing: Routing, times: Sequence[WaitItem | TimeoutItem]
) -> None:
    given, route = node.options.timeout, routing.classes.get(Timeout)
    if given is not None:
        problem = duration_problem(given)
        if problem is not None:
            cure = "Write timeout=timedelta(minutes=5), or whatever it is"
            findings.add(node.where, node.name, "timeout", f"timeout={given!r} {problem}", cure)
    if route is None and (given is not None or times):
        by = "its timeout=" if given is not None else f"{times[0].name}, at {times[0].where}"
        cure = f"Add: {node.name}.on(Timeout).to(...), or .to(None) to drop it"
        findings.add(node.where, node.name, "no-route", f"may end by {by}; that has no route", cure)
    elif route is not None and given is None and not times:
        cure = "Give it one: workflow.node(inner, timeout=timedelta(minutes=5)), or take the route out"
        findings.add(route.where, node.name, "never-returned", "Timeout has a route, but there is no timeout=", cure)


def outcomes_of(graph: Graph) -> set[type]:
    """How runs of a workflow that is a node may end: `Complete`, `Failure`. Returned or routed to."""
    found: set[type] = set()
    for node in graph.nodes:
        for end in node.signature.returns.ends if node.signature is not None else ():
            found.add(Complete if end is Complete else Failure)
    for route in graph.routes:
        found |= {Complete for target in route.targets if target is Complete}
        found |= {Failure for target in route.targets if target is Terminate}
    return found


def _check_inside(findings: Findings, node: NodeItem, graph: Graph, fuse: Fuse, now: datetime) -> None:
    """What is wrong with the workflow itself; its parts are named by the way to them: `pay/charge`."""
    from headrace.workflows.validate import findings_of  # noqa: PLC0415  which calls this module

    for where, problem in findings_of(graph, fuse, now).found:
        subject = node.name if problem.subject == graph.name else node.name + BETWEEN + problem.subject
        inner = Problem(problem.where, subject, problem.code, problem.message, problem.cure)
        findings.take(where, inner)
