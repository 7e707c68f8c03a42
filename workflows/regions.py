"""Strongly connected parts of the graph of units, in topological order."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.workflows.plan import Region


def regions_of(
    edges: Mapping[int, set[int]], count: int, *, whole: bool, singly: bool = False
) -> tuple[tuple[Region, ...], tuple[int, ...]]:
    """Regions of units, and for each unit the index of its region.

    A way of a unit back to itself stays inside the unit and makes nothing serial; a way through another
    unit does.

    Args:
        edges: Unit -> units that it sends to.
        count: Number of units.
        whole: All units are one serial region: a run has one event at a time.
        singly: See `Region.singly`.
    """
    if not count and not singly:
        return (), ()
    if whole:
        return (Region(0, tuple(range(count)), serial=True, before=frozenset(), singly=singly),), (0,) * count
    components = components_of(edges, count)
    region_of = [0] * count
    for index, units in enumerate(components):
        for unit in units:
            region_of[unit] = index
    before: list[set[int]] = [set() for _ in components]
    for index, units in enumerate(components):
        # In topological order all that comes before `index` is complete by now.
        for target in {region_of[to] for unit in units for to in edges.get(unit, ())} - {index}:
            before[target] |= before[index] | {index}
    regions = tuple(
        Region(index, tuple(units), serial=len(units) > 1, before=frozenset(before[index]))
        for index, units in enumerate(components)
    )
    return regions, tuple(region_of)


def components_of(edges: Mapping[int, set[int]], count: int) -> list[list[int]]:
    """Strongly connected components, each sorted, none before what leads to it (Tarjan 1972, without recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: list[int] = []
    is_open: set[int] = set()
    components: list[list[int]] = []
    for root in range(count):
        if root in order:
            continue
        work = [(root, iter(sorted(edges.get(root, ()))))]
        order[root] = low[root] = len(order)
        open_.append(root)
        is_open.add(root)
        while work:
            unit, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[unit])
                if low[unit] == order[unit]:
                    components.append(_close(unit, open_, is_open))
            elif target not in order:
                order[target] = low[target] = len(order)
                open_.append(target)
                is_open.add(target)
                work.append((target, iter(sorted(edges.get(target, ())))))
            elif target in is_open:
                low[unit] = min(low[unit], order[target])
    components.reverse()
    return components


def _close(root: int, open_: list[int], is_open: set[int]) -> list[int]:
    """Take the component of `root` off the stack of open units."""
    component: list[int] = []
    while True:
        unit = open_.pop()
        is_open.discard(unit)
        component.append(unit)
        if unit == root:
            return sorted(component)
