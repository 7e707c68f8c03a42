"""Joins: each event of a source is joined once, with what its branches gave or why they failed, whatever happens."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import timedelta

import pytest

from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS
from joining_graphs import Token, parts_of, put_inside, random_fork, right

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 20
SHARDS = 10


def check(seed: int, *, inside: bool = False) -> int:
    """Send events to a random graph, in batches, with a crash. Returns how many branches failed.

    Args:
        seed: Of all that is random.
        inside: The graph is that of a workflow that is a node, up to three deep.
    """
    draw = random.Random(seed)
    forked = random_fork(draw)
    if inside:
        forked = put_inside(forked, draw.randint(1, 3))
    assert forked.workflow.check() == [], f"seed {seed}"
    tokens = {f"e{number}": Token(draw.choice("abc"), draw.randrange(1_000)) for number in range(draw.randint(1, 30))}
    with Harness(forked.workflow) as harness:
        if draw.random() < 0.7:
            harness.crash_at(draw.choice(CRASH_POINTS))
        rest = list(tokens.items())
        while rest:
            size = draw.choice([1, 3, 10])
            part, rest = rest[:size], rest[size:]
            with harness.batch():
                for name, token in part:
                    harness.send(forked.source, token, id=name)
            if draw.random() < 0.3:
                harness.advance(timedelta(seconds=1))
        harness.advance(timedelta(seconds=60))
        replayed = harness.replay() if draw.random() < 0.5 else 0
        harness.advance(timedelta(seconds=60))

        if inside:
            tokens = {f"{name}.{n}": part for name, token in tokens.items() for n, part in enumerate(parts_of(token))}
        meetings = {row.id: row for row in harness.messages(forked.sink)}.values()
        named = [".".join(row.id.split(".")[: 1 + inside]) for row in meetings]
        assert Counter(named) == Counter(list(tokens)), f"seed {seed}, {replayed} replayed"
        for name, row in zip(named, meetings, strict=True):
            token = tokens[name]
            assert right(forked, token, row.data), f"seed {seed}: {token} gave {row.data}, {forked.expected(token)}"
        for run in harness.runs.values():
            assert not run.state(forked.joined).open, f"seed {seed}: something is waited for"
    return sum(isinstance(row, str) for token in tokens.values() for row in forked.expected(token))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_each_event_is_joined_once_with_what_its_branches_came_to(shard: int) -> None:
    failed = sum(check(shard * 1_000_000 + number) for number in range(GRAPHS // SHARDS))

    assert failed > GRAPHS // SHARDS


@pytest.mark.parametrize("shard", range(SHARDS))
def test_so_it_is_inside_of_workflows_that_are_nodes_for_each_event_that_comes_in(shard: int) -> None:
    failed = sum(check(shard * 1_000_000 + number, inside=True) for number in range(GRAPHS // SHARDS))

    assert failed > GRAPHS // SHARDS
