"""G1, G3: whatever is lost, repeated or cut into batches, the result is that of one event after the other."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from driving import Log, World, outcome, same
from model import Naive, Token, random_graph

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000"))
SHARDS = 20


def random_log(draw: random.Random) -> Log:
    """5 to 80 records of two sources and a few keys; some are no tokens at all."""
    keys = [f"k{number}" for number in range(draw.randint(1, 6))]
    log: Log = []
    source = 0
    for _ in range(draw.randint(5, 80)):
        if draw.random() < 0.2:
            source = 1 - source
        if draw.random() < 0.02:
            value = draw.choice([None, b"{", b"", b'{"key": 3}'])
        else:
            value = msgspec.json.encode(Token(draw.choice(keys), draw.randint(0, 99), draw.randint(0, 3)))
        log.append((source, value))
    return log


def check(seed: int, *, faults: bool, steps: int = 100_000) -> None:
    draw = random.Random(seed)
    graph = random_graph(draw)
    log = random_log(draw)
    naive = Naive(graph)
    for source, value in log:
        naive.feed(source, value)
    world = World(graph, log, draw, faults=faults)
    world.run(steps)
    differences = same(outcome(world), naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_graph_any_batching_any_fault_equals_one_event_at_a_time(shard: int) -> None:
    for number in range(GRAPHS // SHARDS):
        seed = shard * 1_000_000 + number
        check(seed, faults=number % 4 != 0)
