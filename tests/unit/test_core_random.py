"""G1, G3: whatever is lost, repeated or cut into batches, the result is that of one event after the other."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from driving import World, outcome, same
from model import Naive, Token, random_graph, random_log
from spreading import Place, SpreadWorld, spread_outcome

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000"))
SHARDS = 20
SPREAD = GRAPHS // 10
"""Graphs that run in several partitions."""


def check(seed: int, *, faults: bool, steps: int = 100_000, failures: bool = False) -> None:
    draw = random.Random(seed)
    graph = random_graph(draw, failures=failures)
    log = random_log(draw)
    naive = Naive(graph)
    for source, value in log:
        naive.feed(source, value)
    world = World(graph, log, draw, faults=faults)
    world.run(steps)
    differences = same(outcome(world), naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"


def check_spread(seed: int, *, faults: bool, steps: int = 200_000, failures: bool = False) -> None:
    """Several partitions; each key's records lie in one place, which need not be the one that it belongs to."""
    draw = random.Random(seed)
    graph = random_graph(draw, keyed=True, failures=failures)
    partitions = draw.randint(2, 4)
    keys = [f"k{number}" for number in range(draw.randint(1, 8))]
    place_of = {key: (draw.randrange(2), draw.randrange(draw.choice([partitions, 6]))) for key in keys}
    logs: dict[Place, list[bytes | None]] = {}
    naive = Naive(graph)
    for _ in range(draw.randint(5, 80)):
        token = Token(draw.choice(keys), draw.randint(0, 99), draw.randint(0, 3))
        place = place_of[token.key]
        value = draw.choice([None, b"{", b""]) if draw.random() < 0.02 else msgspec.json.encode(token)
        logs.setdefault(place, []).append(value)
        naive.feed(place[0], value, place[1])
    world = SpreadWorld(graph, logs, partitions, draw, faults=faults)
    world.run(steps)
    for _ in range(2):
        for letter in world.replay():
            naive.replay(letter)
        world.run(steps)
    differences = same(spread_outcome(world), naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_records_that_arrive_anywhere_are_processed_once_in_order_where_their_keys_belong(shard: int) -> None:
    for number in range(SPREAD // SHARDS):
        check_spread(shard * 1_000_000 + number, faults=number % 4 != 0)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_graph_any_batching_any_fault_equals_one_event_at_a_time(shard: int) -> None:
    for number in range(GRAPHS // SHARDS):
        seed = shard * 1_000_000 + number
        check(seed, faults=number % 4 != 0)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_graph_with_routes_for_failures_equals_one_event_at_a_time(shard: int) -> None:
    for number in range(GRAPHS // SHARDS // 4):
        check(shard * 1_000_000 + number, faults=number % 4 != 0, failures=True)
    for number in range(SPREAD // SHARDS // 4):
        check_spread(shard * 1_000_000 + number, faults=number % 4 != 0, failures=True)
