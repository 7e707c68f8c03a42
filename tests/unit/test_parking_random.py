"""Nodes that try again: whatever is lost, repeated or cut into batches, the result is that of one event at a time."""

from __future__ import annotations

import os
import random

import pytest

from driving import World, outcome, same
from model import random_graph, random_log
from patience import Patient

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 4
SHARDS = 10


def check(seed: int, *, faults: bool, steps: int = 100_000, failures: bool = False) -> int:
    """Records come, time goes on, more records come. Returns how often something was due."""
    draw = random.Random(seed)
    graph = random_graph(draw, retries=True, failures=failures)
    patient = Patient(graph)
    world = World(graph, [], draw, faults=faults, together=draw.choice([1, 4, 1000]))
    ticks = 0
    for part in range(draw.randint(1, 3)):
        log = random_log(draw)
        if not graph.plan.keyed:  # there it shows at the node only, so later, whether it can be read
            log = [(source, value if value and len(value) > 12 else None) for source, value in log]
        world.go_on(log)
        for source, value in log:
            patient.feed(source, value)
        patient.tick(patient.now)
        world.run(steps)
        most = 10_000 if part == 2 else draw.randint(0, 6)
        while most and not patient.open_order and (due := patient.next_due()) is not None:
            world.core.draining = False
            assert world.core.wakes_at == due, f"seed {seed}: due at {world.core.wakes_at}, expected {due}"
            world.tick()
            patient.tick(world.now)
            world.run(steps)
            most -= 1
            ticks += 1
        if patient.open_order:
            return ticks
    differences = same(outcome(world), patient.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"
    standing = sum(map(len, patient.queues.values()))
    assert len(world.store.parked_fields(0)) == standing, f"seed {seed}: stands still"
    return ticks


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_graph_that_tries_again_equals_one_event_at_a_time(shard: int) -> None:
    ticks = sum(check(shard * 1_000_000 + number, faults=number % 4 != 0) for number in range(GRAPHS // SHARDS))

    assert ticks > GRAPHS // SHARDS


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_graph_that_gives_up_by_a_route_equals_one_event_at_a_time(shard: int) -> None:
    for number in range(GRAPHS // SHARDS // 4):
        check(shard * 1_000_000 + number, faults=number % 4 != 0, failures=True)
