"""Workflows inside workflows: whatever is lost, repeated or cut, the result is that of one event after the other."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import msgspec
import pytest

from driving import World, outcome, same
from headrace.workflows.compiler import compile_graph
from model import Graph, Seen, random_log
from nested import Endless, NaiveNested, random_level, workflow_of

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_NESTED", "1000"))
SHARDS = 5


def check(seed: int, *, faults: bool) -> None:
    draw = random.Random(seed)
    level = random_level(draw, draw.choice([1, 2, 2, 3]), sources=2, ends=draw.random() < 0.4)
    workflow = workflow_of(level)
    assert {problem.code for problem in workflow.check()} <= {"unreached"}, seed  # which does no harm
    plan = replace(compile_graph(workflow._graph, draw.choice([None, None, "all"])), hop_limit=10_000)
    log = random_log(draw)
    naive = NaiveNested(level, plan)
    try:
        for source, value in log:
            naive.feed(source, value)
    except Endless:
        return
    world = World(Graph(plan, []), log, draw, faults=faults)
    world.run()
    found = outcome(world)
    begun = msgspec.json.encode(Seen())  # a state that its nodes share is kept once one of them has had an event
    found.states = {name: blob for name, blob in found.states.items() if blob not in (b"", begun)}
    differences = same(found, naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_result_is_that_of_one_event_after_the_other(shard: int) -> None:
    for seed in range(shard, GRAPHS, SHARDS):
        check(seed, faults=bool(seed % 3))
