"""Checks workflows that are nodes: that they can be one, that their outcomes have routes, and all that is inside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from headrace.workflows.actions import Complete, Failure, Terminate, Timeout
from headrace.workflows.composing import inside
from headrace.workflows.errors import Problem
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Fuse, Graph, NodeItem
from headrace.workflows.plan import BETWEEN
from headrace.workflows.routing import Routing, written
from headrace.workflows.validate_times import duration_problem


def check_inner(findings: Findings, routings: dict[NodeItem, Routing], fuse: Fuse, now: datetime) -> None:
    """All nodes that are workflows; what is inside of one that is used twice is checked once."""
    seen: list[Graph] = []
    for node in findings.graph.nodes:
        if not node.inner:
            continue
        graph = inside(node)
        if findings.graph in graph.with_inner():
            message = f"the workflow {graph.name!r} is inside itself"
            findings.add(node.where, node.name, "inner", message, "Route back to one of its nodes, or take it out")
            continue
        _check_source(findings, node, graph)
        _check_outcomes(findings, node, graph, routings[node])
        if graph not in seen:
            seen.append(graph)
            _check_inside(findings, node, graph, fuse, now)


def takes(node: NodeItem) -> Any:
    """Type of the data that a workflow takes as a node; None where that can't be said."""
    sources = inside(node).sources
    return getattr(sources[0].source, "type", None) if len(sources) == 1 else None


def _check_source(findings: Findings, node: NodeItem, graph: Graph) -> None:
    if len(graph.sources) != 1:
        count = len(graph.sources) or "no"
        names = ", ".join(source.name for source in graph.sources)
        message = (
            f"the workflow {graph.name!r} has {count} sources{': ' * bool(names)}{names}; as a node it has one way in"
        )
        cure = "Give it one source, whose type is that of the events that it takes"
        findings.add(node.where, node.name, "inner", message, cure)


def _check_outcomes(findings: Findings, node: NodeItem, graph: Graph, routing: Routing) -> None:
    """Each way in which the workflow ends has a route, and each route an end that takes it."""
    if routing.default is not None:
        message = "`.to(...)` takes data that a node returns, and a workflow has outcomes only"
        cure = f"Write {node.name}.on(Complete).to(...)"
        findings.add(routing.default.where, node.name, "never-returned", message, cure)
    ends = outcomes_of(graph)
    for outcome, route in ((Complete, routing.classes.get(Complete)), (Failure, routing.failure)):
        if outcome in ends and route is None:
            what = "Complete" if outcome is Complete else "Terminate, which arrives as Failure"
            message = f"the workflow {graph.name!r} may end by {what}; that has no route"
            cure = f"Add: {node.name}.on({written(outcome)}).to(...), or .to(None) to drop it"
            findings.add(node.where, node.name, "no-route", message, cure)
    _check_timeout(findings, node, routing)
    complete = routing.classes.get(Complete)
    if complete is not None and Complete not in ends:
        message = f"nothing in the workflow {graph.name!r} returns Complete, or is routed to it"
        findings.add(complete.where, node.name, "never-returned", message, "Take the route out")


def _check_timeout(findings: Findings, node: NodeItem, routing: Routing) -> None:
    given, route = node.options.timeout, routing.classes.get(Timeout)
    if given is not None:
        problem = duration_problem(given)
        if problem is not None:
            cure = "Write timeout=timedelta(minutes=5), or whatever it is"
            findings.add(node.where, node.name, "timeout", f"timeout={given!r} {problem}", cure)
        if route is None:
            cure = f"Add: {node.name}.on(Timeout).to(...), or .to(None) to drop it"
            findings.add(node.where, node.name, "no-route", "may end by its timeout=; that has no route", cure)
    elif route is not None:
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
