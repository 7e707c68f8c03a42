"""Placement: every partition has an owner, loads are even, and nothing moves without need."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from headrace.actors.placement import place

names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)


def test_partitions_of_a_dead_worker_go_to_the_survivors_and_the_others_stay() -> None:
    now = {0: "a", 1: "a", 2: "b", 3: "b"}

    after = place(4, ["a", "c"], now)

    assert after == {0: "a", 1: "a", 2: "c", 3: "c"}


def test_a_worker_that_joins_takes_its_share_only() -> None:
    now = dict.fromkeys(range(4), "a")

    after = place(4, ["a", "b"], now)

    assert [after[partition] for partition in range(4)] == ["a", "a", "b", "b"]


def test_without_workers_nothing_is_placed() -> None:
    assert place(3, [], {0: "gone"}) == {}


@given(st.integers(0, 40), names, st.dictionaries(st.integers(0, 45), st.sampled_from("abcdefgh")))
def test_any_placement_is_whole_and_even(partitions: int, workers: list[str], now: dict[int, str]) -> None:
    after = place(partitions, workers, now)

    if not workers:
        assert after == {}
        return
    assert set(after) == set(range(partitions))
    loads = [list(after.values()).count(worker) for worker in workers]
    assert sum(loads) == partitions
    assert max(loads) - min(loads) <= 1


@given(st.integers(0, 40), names, st.dictionaries(st.integers(0, 45), st.sampled_from("abcdefgh")))
def test_placing_again_moves_nothing(partitions: int, workers: list[str], now: dict[int, str]) -> None:
    after = place(partitions, workers, now)

    assert place(partitions, list(reversed(workers)), after) == after


@given(st.integers(1, 9), st.lists(st.sampled_from("abc"), unique=True, min_size=1), st.data())
def test_any_placement_moves_as_few_as_balance_allows(partitions: int, workers: list[str], data: st.DataObject) -> None:
    owners = st.sampled_from("abcd")
    now = {partition: data.draw(owners) for partition in range(partitions)}

    after = place(partitions, workers, now)

    kept = sum(after[partition] == now[partition] for partition in range(partitions))
    assert kept == _most_that_can_stay(partitions, workers, now)


def _most_that_can_stay(partitions: int, workers: list[str], now: dict[int, str]) -> int:
    """By trying every way to hand out the larger shares."""
    share, larger = divmod(partitions, len(workers))
    return max(
        sum(
            min(share + (rank < larger), sum(owner == worker for owner in now.values()))
            for rank, worker in enumerate(order)
        )
        for order in permutations(workers)
    )
