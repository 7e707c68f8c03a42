"""How joins hear of every branch of every event: of what came of it, or that nothing will.

Each place of the graph *covers* the branches that an event there may still give. Where an event goes on to places that
cover less, is dropped, or stops, the join is told of the rest: a *loss* is put there as one more target. So each branch
is heard of exactly once for each event of a source, as long as no way leads to it twice (`validate_joins`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from headrace.workflows.actions import Complete, Terminate
from headrace.workflows.graph import Destination, Fused, Graph, NodeItem, NodeOptions, Route, Start, WaitItem
from headrace.workflows.joining import JoinLost, Loss
from headrace.workflows.joins import plain_signature
from headrace.workflows.plan import PART
from headrace.workflows.routing import together

Cover: TypeAlias = frozenset[NodeItem]
"""Ports: branches of joins that an event may still give."""
_NONE: Cover = frozenset()


def routes_by_match(graph: Graph, start: Start) -> list[Route]:
    """The routes of a place, one for each thing that takes one: those into joins are one with those of the user."""
    found: dict[object, Route] = {}
    for route in graph.routes_of(start):
        for match in route.match or (None,):
            single = replace(route, match=None if match is None else (match,))
            found[match] = together(found.get(match), single)
    return list(found.values())


def covers(graph: Graph) -> dict[Start, Cover]:
    """What each place covers. A join covers what comes behind it; what leads to it covers its ports only."""
    starts: list[Start] = [*graph.sources, *graph.nodes, *graph.waits, *graph.timeouts]
    found: dict[Start, Cover] = dict.fromkeys(starts, _NONE)
    targets = {start: [target for route in graph.routes_of(start) for target in route.targets] for start in starts}
    changed = True
    while changed:
        changed = False
        for start in starts:
            cover = covered(targets[start], found)
            if cover != found[start]:
                found[start], changed = cover, True
    return found


def covered(targets: Iterable[Destination], found: dict[Start, Cover]) -> Cover:
    """What all of these targets cover together."""
    return _NONE.union(*(_cover_of(target, found) for target in targets))


def _cover_of(target: Destination, found: dict[Start, Cover]) -> Cover:
    if isinstance(target, NodeItem) and target.feeds is not None:
        return frozenset((target,))
    return found[target] if isinstance(target, (NodeItem, WaitItem)) else _NONE


def with_joins(graph: Graph) -> Graph:
    """The graph with the parts of its joins as nodes, and with the losses; itself where there are no joins."""
    if all(node.join is None for node in graph.nodes):
        return graph
    return _Weaver(graph).graph


class _Weaver:
    def __init__(self, written: Graph) -> None:
        self._covers = covers(written)
        self._losses: dict[Cover, tuple[NodeItem, ...]] = {}
        self._parts: dict[NodeItem, list[NodeItem]] = {}
        """By join: its ports and losses."""
        self.graph = graph = replace(written, nodes=list(written.nodes), routes=[], fused=[], lost={})
        for node in written.nodes:
            if node.join is not None:
                self._parts[node] = [branch.port for branch in node.join.branches]
        for source in written.sources:
            self._weave(written, source)
        for node in written.nodes:
            self._weave(written, node)
            lost = self._losses_of(self._covers[node])
            if lost:
                graph.lost[node] = lost
        others: list[Start] = [*written.waits, *written.timeouts, written.letters]  # none of them leads to a branch
        for other in others:
            graph.routes += written.routes_of(other)
        for join, parts in self._parts.items():
            assert join.join is not None
            for branch in join.join.branches:  # what it is given may be no data of its type
                graph.lost[branch.port] = self._losses_of(frozenset((branch.port,)))
            graph.nodes += parts
            for part in parts:
                graph.routes.append(Route(part, None, (join,), join.where))
        graph.fused = self._fused(written)

    def _weave(self, written: Graph, start: Start) -> None:
        """The routes of a place, each with the losses of what does not go that way."""
        cover = self._covers[start]
        for route in routes_by_match(written, start):
            targets = route.targets
            if Complete not in targets and Terminate not in targets:  # with its run, what waits of it is no more
                targets += self._losses_of(cover - covered(targets, self._covers))
            self.graph.routes.append(replace(route, targets=targets, joins=False))

    def _losses_of(self, cover: Cover) -> tuple[NodeItem, ...]:
        """Nodes that tell joins of branches that will give nothing: one for each join."""
        if cover not in self._losses:
            found: list[NodeItem] = []
            for join, parts in self._parts.items():
                assert join.join is not None
                branches = tuple(branch.name for branch in join.join.branches if branch.port in cover)
                if branches:
                    loss = NodeItem(
                        f"{join.name}{PART}lost{PART}{'+'.join(branches)}", join.where, None, NodeOptions(), None
                    )
                    loss.signature, loss.feeds = plain_signature(Loss(branches), None, [JoinLost]), join
                    same = next((part for part in parts if part.name == loss.name), None)
                    if same is None:
                        parts.append(loss)
                    found.append(same or loss)
            self._losses[cover] = tuple(found)
        return self._losses[cover]

    def _fused(self, written: Graph) -> list[Fused]:
        """A join and its parts are in one unit, with what the user fuses it with."""
        fused = list(written.fused)
        for join, parts in self._parts.items():
            at = next((index for index, group in enumerate(fused) if join in group.nodes), None)
            if at is None:
                fused.append(Fused((join, *parts), join.where))
            else:
                fused[at] = replace(fused[at], nodes=(*fused[at].nodes, *parts))
                options = next(node.options for node in fused[at].nodes if isinstance(node, NodeItem))
                for node in (join, *parts):
                    node.options = replace(node.options, replicas=options.replicas)
        return fused
