"""Events that are tried again within their epoch: whatever is lost or cut, the result is that of one at a time."""

from __future__ import annotations

import os
import random

import pytest

from driving import World, outcome, same
from model import random_graph, random_log
from patience import Patient

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 4
SHARDS = 10


def check(seed: int, *, faults: bool) -> int:
    """Records come, and wait in memory, or are parked where that takes too long. Returns how many waited so."""
    draw = random.Random(seed)
    graph = random_graph(draw, retries=True, trees=True, failures=draw.random() < 0.3)
    patient = Patient(graph)
    limits = {
        "soon_from": draw.choice([1, 1, 3]), "soon": draw.choice([5, 250, 2000, 100_000]),
        "soon_tick": draw.choice([1, 5]), "waiting_soon": draw.choice([1, 5, 1000]),
    }  # fmt: skip
    world = World(graph, [], draw, faults=faults, **limits)
    waited = 0
    for _ in range(draw.randint(1, 3)):
        log = random_log(draw)
        if not graph.plan.keyed:
            log = [(source, value if value and len(value) > 12 else None) for source, value in log]
        world.go_on(log)
        for source, value in log:
            patient.feed(source, value)
        world.run()
        waited += world.core.soon.kept
    while (due := patient.next_due()) is not None:
        patient.tick(due)
    while True:
        world.run()
        if not world.tick():
            break
    waited += world.core.soon.kept
    found, expected = outcome(world), patient.result
    for side in (found, expected):  # which of a run's nodes is the last to publish, or the first to reply, is open
        side.answers = dict.fromkeys(side.answers, ())
        side.states = {name: blob for name, blob in side.states.items() if not name[1].startswith("value:")}
    differences = same(found, expected)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"
    assert not world.store.parked_fields(0), f"seed {seed}: stands still"
    return waited


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_tree_that_tries_again_soon_equals_one_event_at_a_time(shard: int) -> None:
    waited = sum(check(shard * 1_000_000 + number, faults=number % 4 != 0) for number in range(GRAPHS // SHARDS))

    assert waited > GRAPHS // SHARDS
