"""Which nodes of a plan are in one unit: what the user fuses, and what is one by its nature."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.workflows.composing import chain
from headrace.workflows.graph import Fuse, Graph, NodeItem
from headrace.workflows.plan import SINK, NodePlan, UnitPlan


def units_of(graph: Graph, nodes: tuple[NodePlan, ...], fuse: Fuse) -> tuple[tuple[UnitPlan, ...], tuple[int, ...]]:
    """Groups of nodes that run together, by their first node, and for each node the index of its group."""
    if not nodes:
        return (), ()
    if fuse == "all":
        return (UnitPlan(0, tuple(range(len(nodes))), in_worker=True, replicas=1),), (0,) * len(nodes)
    together: dict[NodeItem, list[NodeItem]] = {}  # a workflow that is a node runs in one place, with all inside it
    for item in graph.nodes:
        together.setdefault(_outermost(item), []).append(item)
    group_of: dict[NodeItem, tuple[int, ...]] = {
        item: tuple(graph.nodes.index(one) for one in together[_outermost(item)]) for item in graph.nodes
    }
    for fused in graph.fused:
        items = [item for item in graph.nodes if _outermost(item) in fused.nodes]
        group = tuple(graph.nodes.index(item) for item in items)
        group_of.update(dict.fromkeys(items, group))
    groups = list(dict.fromkeys(group_of[item] for item in graph.nodes))
    units = tuple(
        UnitPlan(
            index,
            group,
            in_worker=False,
            replicas=max(nodes[node].replicas for node in group),
            resources=_together([nodes[node].resources for node in group]),
        )
        for index, group in enumerate(groups)
    )
    return units, tuple(groups.index(group_of[item]) for item in graph.nodes)


def _outermost(item: NodeItem) -> NodeItem:
    *_, outermost = chain(item)
    return outermost


def _together(wanted: list[Mapping[str, float]]) -> dict[str, float]:
    """Resources of an actor that holds several nodes: their sum."""
    total: dict[str, float] = {}
    for resources in wanted:
        for name, amount in resources.items():
            total[name] = total.get(name, 0) + amount
    return total


def edges_of(nodes: tuple[NodePlan, ...], unit_of: tuple[int, ...]) -> dict[int, set[int]]:
    """Unit -> units that its nodes route to, itself not among them."""
    edges: dict[int, set[int]] = {unit: set() for unit in unit_of}
    for node in nodes:
        for targets in node.routes:
            for target in targets:
                if 0 <= target < SINK and unit_of[target] != unit_of[node.index]:
                    edges[unit_of[node.index]].add(unit_of[target])
    return edges
