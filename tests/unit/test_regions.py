"""Strongly connected parts of the graph, against their definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from headrace.workflows.regions import components_of, regions_of

Pairs = tuple[int, set[tuple[int, int]]]
graphs = some.integers(1, 8).flatmap(
    lambda count: some.tuples(
        some.just(count),
        some.sets(some.tuples(some.integers(0, count - 1), some.integers(0, count - 1)), max_size=20),
    )
)


def edges_of(pairs: set[tuple[int, int]]) -> dict[int, set[int]]:
    edges: dict[int, set[int]] = {}
    for start, end in pairs:
        edges.setdefault(start, set()).add(end)
    return edges


def reachable(edges: dict[int, set[int]], start: int) -> set[int]:
    seen: set[int] = set()
    todo = [start]
    while todo:
        for end in edges.get(todo.pop(), set()) - seen:
            seen.add(end)
            todo.append(end)
    return seen


@given(graphs)
def test_any_two_units_share_a_region_exactly_if_each_reaches_the_other(
    graph: tuple[int, set[tuple[int, int]]],
) -> None:
    count, pairs = graph
    edges = edges_of(pairs)

    regions, region_of = regions_of(edges, count, whole=False)

    assert sorted(unit for region in regions for unit in region.units) == list(range(count))
    for one in range(count):
        for other in range(count):
            mutual = one == other or (other in reachable(edges, one) and one in reachable(edges, other))
            assert (region_of[one] == region_of[other]) is mutual


@given(graphs)
def test_any_region_comes_after_exactly_those_that_reach_it(graph: Pairs) -> None:
    count, pairs = graph
    edges = edges_of(pairs)

    regions, region_of = regions_of(edges, count, whole=False)

    for region in regions:
        before = {region_of[unit] for unit in range(count) if region.units[0] in reachable(edges, unit)}
        assert region.before == before - {region.index}
        assert all(earlier < region.index for earlier in region.before)
        assert region.serial is (len(region.units) > 1)


def test_a_long_chain_needs_no_deep_stack() -> None:
    count = 5_000

    assert components_of({unit: {unit + 1} for unit in range(count - 1)}, count) == [[unit] for unit in range(count)]


def test_a_way_back_through_another_unit_is_serial_and_to_itself_is_not() -> None:
    regions, _ = regions_of({0: {0, 1}, 1: {2}, 2: {1, 3}}, 4, whole=False)

    assert [(region.units, region.serial) for region in regions] == [((0,), False), ((1, 2), True), ((3,), False)]


def test_a_serial_workflow_is_one_region() -> None:
    regions, region_of = regions_of({0: {1}}, 2, whole=True)

    assert [(region.units, region.serial, region.before) for region in regions] == [((0, 1), True, frozenset())]
    assert region_of == (0, 0)
