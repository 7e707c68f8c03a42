"""Checks joins: their branches can meet, each event gives every one of them once, and no way leads round a join."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from headrace.workflows.actions import Failure
from headrace.workflows.findings import Findings
from headrace.workflows.graph import NodeItem, SourceItem, Start, TimeoutItem, WaitItem
from headrace.workflows.join_routes import Cover, covered, covers, routes_by_match
from headrace.workflows.plan import PART

_CODE: Final = "join"
_MOST: Final = 100_000


def check_joins(findings: Findings) -> None:
    """All joins of the graph."""
    graph = findings.graph
    joins = [node for node in graph.nodes if node.join is not None]
    if not joins:
        return
    for join in joins:
        _check_join(findings, join)
    found = covers(graph)
    for start in found:
        _check_ways(findings, start, found)
        if isinstance(start, NodeItem) and start.inner and found[start]:
            message = (
                f"leads to {_names(found[start])} of a join, and is a workflow: it ends when it wants,"
                " often by another event than the one that came in"
            )
            cure = (
                "Let the branches begin and end before it, or beside it; or make it a node that gives a result at once"
            )
            findings.add(start.where, start.name, _CODE, message, cure)
    _check_sources(findings, joins, found)
    for join in joins:
        _check_round(findings, join, found)


def _check_join(findings: Findings, item: NodeItem) -> None:
    join = item.join
    assert join is not None
    names = [branch.name for branch in join.branches]
    count = len(names)

    def wrong(message: str, cure: str) -> None:
        findings.add(item.where, item.name, _CODE, message, cure)

    if count < 2:  # noqa: PLR2004  what meets is more than one
        wrong(f"joins {count} branches", "Name two of them or more")
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            wrong(f"joins {name} twice", "Name each branch once")
    whole = isinstance(join.when, int) and not isinstance(join.when, bool) and 1 <= join.when <= count
    if join.when not in ("all", "any") and not whole:
        wrong(f"when={join.when!r} means nothing", f"Write 'all', 'any', or how many of its {count} are enough")
    if not isinstance(join.limit, int) or isinstance(join.limit, bool) or not 1 <= join.limit <= _MOST:
        wrong(f"limit={join.limit!r} is no number of groups", f"Write a whole number from 1 to {_MOST}")
    fails = any(Failure in (route.match or ()) for route in findings.graph.routes_of(item))
    if join.when != "all" and not fails:
        message = "gives a Failure when too few of its branches are left, which has no route"
        findings.add(item.where, item.name, "no-route", message, f"Add: {item.name}.on(Failure).to(...)")


def _check_ways(findings: Findings, start: Start, found: dict[Start, Cover]) -> None:
    """What goes on from a place gives each branch once."""
    if isinstance(start, (WaitItem, TimeoutItem)):
        if found[start]:
            names = _names(found[start])
            cure = "Let the branches begin and end between two of them"
            findings.add(
                start.where, start.name, _CODE, f"leads to {names} of a join: what comes later is another event", cure
            )
        return
    if isinstance(start, NodeItem) and found[start] and start.signature is not None:
        names = _names(found[start])
        if start.signature.returns.lists:
            message = f"may return a list, and so give {names} of a join several times"
            findings.add(start.where, start.name, _CODE, message, "Return one thing: wrap the list in a struct")
        if start.signature.sets_timers:
            message = f"sets timers, and leads to {names} of a join: a timer that falls due is an event by itself"
            findings.add(start.where, start.name, _CODE, message, "Set timers in a node behind the join, or beside it")
    for route in routes_by_match(findings.graph, start):
        seen: Cover = frozenset()
        for target in route.targets:
            cover = covered((target,), found)
            if cover & seen:
                message = f"leads to {_names(cover & seen)} of a join by two ways: there would be two results of it"
                findings.add(
                    route.where, start.name, _CODE, message, "Let one way lead there, or join both as branches"
                )
            seen |= cover


def _check_sources(findings: Findings, joins: Iterable[NodeItem], found: dict[Start, Cover]) -> None:
    """An event of a source gives all branches of a join, or none."""
    origins: dict[NodeItem, list[Start]] = {}
    starts: list[Start] = [*findings.graph.sources, *joins]
    for start in starts:
        for port in found[start]:
            origins.setdefault(port, []).append(start)
    for port, several in origins.items():
        if len(several) > 1 and not all(isinstance(start, SourceItem) for start in several):
            names = " and ".join(start.name for start in several)
            message = f"its branch {_names((port,))} comes of {names}: there would be two results of it"
            findings.add(port.where, _join(port).name, _CODE, message, "Let one of them lead there")
    for source in findings.graph.sources:
        reached, todo = found[source], list(joins)
        while todo:
            whole = [join for join in todo if _ports(join) <= reached]
            if not whole:
                break
            todo = [join for join in todo if join not in whole]
            reached = reached.union(*(found[join] for join in whole))
        for join in todo:
            some = _ports(join) & reached
            if some:
                missing = _names(_ports(join) - some)
                message = f"an event of {source.name} gives {_names(some)}, and never {missing}: they can't meet"
                findings.add(join.where, join.name, _CODE, message, f"Let {source.name} lead to all of its branches")


def _check_round(findings: Findings, join: NodeItem, found: dict[Start, Cover]) -> None:
    seen: set[NodeItem] = set()
    todo = [join]
    while todo:
        for port in found[todo.pop()]:
            behind = _join(port)
            if behind not in seen:
                seen.add(behind)
                todo.append(behind)
    if join in seen:
        message = "a way leads from it back to its own branches: an event is joined once"
        findings.add(join.where, join.name, _CODE, message, "Send what is to go round by a sink to another source")


def _ports(join: NodeItem) -> Cover:
    assert join.join is not None
    return frozenset(branch.port for branch in join.join.branches)


def _join(port: NodeItem) -> NodeItem:
    assert port.feeds is not None
    return port.feeds


def _names(ports: Iterable[NodeItem]) -> str:
    return " and ".join(sorted(port.name.partition(PART)[2] for port in ports))
