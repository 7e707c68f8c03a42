"""Checks a workflow as a whole: all mistakes at once, each with its line and a cure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from headrace.workflows.codec import type_name
from headrace.workflows.compatible import accepts
from headrace.workflows.composing import awaited_inside
from headrace.workflows.errors import Problem
from headrace.workflows.findings import Findings
from headrace.workflows.graph import (
    Fuse,
    Graph,
    NodeItem,
    Route,
    SinkItem,
    SourceItem,
    Start,
    TimeoutItem,
    Unknown,
    WaitItem,
)  # fmt: skip
from headrace.workflows.joins import sign_joins
from headrace.workflows.routing import Routing, beside, flowing, routing_of, written
from headrace.workflows.validate_inner import check_inner, takes
from headrace.workflows.validate_joins import check_joins
from headrace.workflows.validate_mapped import check_mapped
from headrace.workflows.validate_parts import check_parts
from headrace.workflows.validate_states import check_states
from headrace.workflows.validate_times import check_times, check_waits


def problems_of(graph: Graph, fuse: Fuse, now: datetime) -> list[Problem]:
    """Everything that keeps the graph from being compiled, in the order of its lines.

    Args:
        graph: The workflow.
        fuse: How it is to be compiled.
        now: What times in it are compared with (aware).
    """
    return findings_of(graph, fuse, now).problems()


def findings_of(graph: Graph, fuse: Fuse, now: datetime) -> Findings:
    """The same, to be put among those of another graph."""
    findings = Findings(graph)
    sign_joins(graph)
    check_parts(findings, fuse, now)
    check_states(findings)
    check_times(findings)
    check_waits(findings)
    routings = {node: routing_of(node, findings) for node in graph.nodes}
    _check_starts(findings)
    _check_letters(findings)
    _check_targets(findings)
    _check_types(findings, routings)
    _check_reach(findings)
    check_joins(findings)
    check_inner(findings, routings, fuse, now)
    check_mapped(findings, fuse, now)
    return findings


def _check_starts(findings: Findings) -> None:
    """A source (wait, time-out) has one route; a node's are checked with what it returns."""
    graph = findings.graph
    starts: list[Start] = [*graph.sources, *graph.waits, *graph.timeouts]
    inside = awaited_inside(graph)
    for start in starts:
        seen: dict[object, Route] = {}
        for route in graph.routes_of(start):
            for match in route.match or (None,):
                before = seen.setdefault(match, route)
                if not (before is route or beside(before, route)):
                    findings.add(
                        route.where,
                        start.name,
                        "routed-twice",
                        f"is routed twice, first at {before.where}",
                        f"Write one route; to send it to both: {start.name}.to(one, other)",
                    )
        awaited = start in inside or any(wait.source is start for wait in graph.waits)
        messages = isinstance(start, SourceItem) and getattr(start.source, "kind", "") == "messages"
        if None not in seen and not (awaited or messages or isinstance(start, TimeoutItem)):
            message, cure = "goes nowhere", f"Add: {start.name}.to(...), or take it out"
            findings.add(start.where, start.name, "no-route", message, cure)


def _check_letters(findings: Findings) -> None:
    """Dead letters go to sinks only: what a node made of them could be dead letters again."""
    graph = findings.graph
    routes = graph.routes_of(graph.letters)
    for route in routes:
        for target in route.targets:
            if not isinstance(target, (SinkItem, Unknown)):
                name = target.__name__ if isinstance(target, type) else target.name
                message = f"are routed to {name}, which is no sink"
                cure = "Send them to a sink; another workflow may read its topic, or have a WorkflowSource for it"
                findings.add(route.where, graph.letters.name, "letters", message, cure)
    for route in routes[1:]:
        message = f"are routed twice, first at {routes[0].where}"
        cure = "Write one route; to send them to both: dead_letters.to(one, other)"
        findings.add(route.where, graph.letters.name, "routed-twice", message, cure)


def _check_targets(findings: Findings) -> None:
    for route in findings.graph.routes:
        for target in route.targets:
            if isinstance(target, Unknown):
                what = _what(route)
                if target.text == "nothing":
                    message, cure = f"{what}`.to()` names no target", "Name one, or write .to(None) to drop"
                else:
                    message = f"{what}is routed to {target.text}, which is no part of this workflow"
                    cure = "Route to what workflow.node(...) or workflow.sink(...) gave back"
                findings.add(route.where, route.start.name, "unknown-target", message, cure)
        known = [target for target in route.targets if not isinstance(target, Unknown)]
        for target in dict.fromkeys(known):
            if known.count(target) > 1:
                name = target.__name__ if isinstance(target, type) else target.name
                message = f"{_what(route)}is routed twice to {name} in one fan-out"
                findings.add(route.where, route.start.name, "routed-twice", message, "Name each target once")


def _what(route: Route) -> str:
    """Beginning of a sentence about the route."""
    if not route.match:
        return ""
    names = " and ".join(written(match) for match in route.match)
    return f"action {names} " if not isinstance(route.match[0], type) else f"{names} "


def _check_types(findings: Findings, routings: dict[NodeItem, Routing]) -> None:
    for route in findings.graph.routes:
        routing = routings.get(route.start) if isinstance(route.start, NodeItem) else None
        for target in route.targets:
            wanted = _wanted(target)
            for match in route.match or (None,):
                for given in flowing(route, match, routing):
                    if wanted is not None and not accepts(wanted, given):
                        _mismatch(findings, route, target, wanted, given)


def _wanted(target: object) -> Any:
    """Type of data that a target takes; None if that is not known, or anything will do."""
    if isinstance(target, SinkItem):
        return getattr(target.sink, "type", None)
    if isinstance(target, NodeItem) and target.signature is not None:
        return target.signature.takes
    return takes(target) if isinstance(target, NodeItem) and target.inner else None


def _mismatch(findings: Findings, route: Route, target: Any, wanted: Any, given: Any) -> None:
    findings.add(
        route.where,
        route.start.name,
        "type",
        f"gives {type_name(given)}, but {target.name} takes {type_name(wanted)}",
        f"Route it to something that takes {type_name(given)}, or put a node between that makes one of the other",
    )


def _check_reach(findings: Findings) -> None:
    """Every node and sink can be reached from a source."""
    graph = findings.graph
    if not graph.sources and not graph.nodes:
        findings.add(
            graph.where,
            graph.name,
            "empty",
            "has neither sources nor nodes",
            "Add some: readings = workflow.source(...), classify = workflow.node(...), readings.to(classify)",
        )
    todo: list[Start] = [*graph.sources, *graph.timeouts, graph.letters]
    reached: set[object] = set(todo)
    while todo:
        for route in graph.routes_of(todo.pop()):
            for found in route.targets:
                target = found.feeds or found if isinstance(found, NodeItem) else found
                if target not in reached:
                    reached.add(target)
                    if isinstance(target, (NodeItem, WaitItem)):
                        todo.append(target)
    source = graph.sources[0].name if graph.sources else "source"
    for node in graph.nodes:
        if node not in reached:
            message = "no source reaches it"
            findings.add(node.where, node.name, "unreached", message, f"Add: {source}.to({node.name}), or take it out")
    for sink in graph.sinks:
        if sink not in reached:
            cure = f"Add a route: node.to({sink.name}), or take it out"
            findings.add(sink.where, sink.name, "unreached", "nothing is routed to it", cure)
    for wait in graph.waits:
        if wait not in reached:
            findings.add(wait.where, wait.name, "unreached", "nothing is routed to it", "Add a route to it")
