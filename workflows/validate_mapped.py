"""Checks workflows that a `Map` runs for each item: that they end within a call, and leave results and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from headrace.workflows.actions import Complete
from headrace.workflows.codec import type_name
from headrace.workflows.compatible import accepts
from headrace.workflows.composing import inside
from headrace.workflows.errors import Problem
from headrace.workflows.findings import Findings
from headrace.workflows.graph import Fuse, Graph, NodeItem, SinkItem, Unknown, WaitItem, Where
from headrace.workflows.mapping import Map
from headrace.workflows.plan import BETWEEN
from headrace.workflows.retry import Retry, retry_faults, waits_longer
from headrace.workflows.validate_inner import outcomes_of

_CODE = "map"
_WITHIN: Final = timedelta(minutes=1)
"""What waits of a node's `retry=` may come to: nothing of them is kept when the process dies."""


def check_mapped(findings: Findings, fuse: Fuse, now: datetime) -> None:
    """All nodes that map a workflow."""
    from headrace.workflows.validate import findings_of  # noqa: PLC0415  which calls this module

    for node in findings.graph.nodes:
        graph = node.maps
        if graph is None:
            continue
        if findings.graph in graph.with_inner():
            message = f"the workflow {graph.name!r} is inside itself"
            findings.add(node.where, node.name, "inner", message, "Map a workflow that is no part of this one")
            continue
        _check_ways(findings, node, graph)
        for where, what, cure in _too_long(graph, node.options.timeout):
            message = f"{what} in a workflow that is mapped: the run of an item ends within the call of its node"
            findings.add(where, node.name, _CODE, message, cure)
        for where, problem in findings_of(graph, fuse, now).found:
            subject = node.name if problem.subject == graph.name else node.name + BETWEEN + problem.subject
            findings.take(where, Problem(problem.where, subject, problem.code, problem.message, problem.cure))


def _check_ways(findings: Findings, node: NodeItem, graph: Graph) -> None:
    """One way in, for items; and an end that says what came of them."""
    if len(graph.sources) != 1:
        message = f"the workflow {graph.name!r} has {len(graph.sources)} sources; items have one way in"
        findings.add(node.where, node.name, _CODE, message, "Give it one source, of the items' type")
        return
    for route in graph.routes_of(graph.sources[0]):
        if not all(isinstance(target, NodeItem | Unknown | SinkItem | WaitItem) for target in route.targets):
            cure = "Put a node between"
            findings.add(route.where, node.name, _CODE, "its items end at once: there is nothing to run", cure)
    given: Any = node.user.item_type
    wanted = getattr(graph.sources[0].source, "type", Any)
    if given is not None and not accepts(wanted, given):
        message = f"its items are {type_name(given)}, but {graph.name!r} takes {type_name(wanted)}"
        findings.add(node.where, node.name, _CODE, message, f"Write of=list[{type_name(wanted)}]")
    if Complete not in outcomes_of(graph):
        message = f"nothing in the workflow {graph.name!r} returns Complete, or is routed to it: items have no results"
        findings.add(node.where, node.name, _CODE, message, "Return Complete(result) where an item is done")


def _too_long(graph: Graph, timeout: timedelta | None) -> Iterator[tuple[Where, str, str]]:
    """What the run of an item can't have; `timeout`: of the call in which it ends."""
    within = min(timeout, _WITHIN) if isinstance(timeout, timedelta) else _WITHIN
    retry = "Take it out; or return the items as a list: each goes on as an event of its own, with all that nodes have"
    for wait in graph.waits:
        yield wait.where, f"workflow.wait ({wait.name})", retry
    for item in graph.timeouts:
        yield item.where, "workflow.timeout", "Give the Map a timeout="
    for sink in graph.sinks:
        yield sink.where, f"the sink {sink.name}", "Put what is to leave into the result, and send it behind the Map"
    for node in graph.nodes:
        if node.join is not None:
            yield node.where, f"workflow.join ({node.name})", retry
        trying: object = node.options.retry
        if isinstance(trying, Retry) and not retry_faults(trying) and waits_longer(trying, within):
            cure = f"Let its waits come to {within} at most, all together; or return the items as a list"
            yield node.where, f"retry= of {node.name}, which may wait longer than {within}", cure
        if node.signature is not None and node.signature.sets_timers:
            yield node.where, f"on_timer of {node.name}", retry
        if node.options.timeout is not None and (node.inner or not (node.signature and node.signature.is_async)):
            yield node.where, f"timeout= of {node.name}, which is not async", "Give the Map a timeout="
        if isinstance(node.user, Map) and node.maps is None:
            continue
        if node.inner:
            yield from _too_long(inside(node), timeout)
