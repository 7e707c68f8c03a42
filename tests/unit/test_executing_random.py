"""Whatever is executed out of line, of whatever runs and nodes, and whatever is lost: nothing else has happened."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from driving import Log, World, outcome, same
from headrace.workflows.records import Records, Reentry
from model import Graph, Naive, Token, random_graph, random_log

GRAPHS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 10
SHARDS = 10
ORIGIN = "executions"


class ExecutingWorld(World):
    """Between its events lie executions: of nodes that there are and are not, of runs that there are and are not."""

    def __init__(self, graph: Graph, log: Log, draw: random.Random, *, faults: bool) -> None:
        self.asked: list[str] = []
        super().__init__(graph, log, draw, faults=faults)

    def offer(self) -> None:
        """The next records, with executions before and behind them."""
        core = self.core
        core.offer = lambda batches, now: type(core).offer(  # type: ignore[method-assign]
            core, [row for each in batches for row in self.with_one(each)], now
        )
        super().offer()

    def with_one(self, records: Records) -> list[Records]:
        """Records, and perhaps executions before or behind them."""
        if self.draw.random() < 0.5:
            return [records]
        both = [records, self.executions()]
        self.draw.shuffle(both)
        return both

    def executions(self) -> Records:
        """Some of one node."""
        count, draw, first = self.draw.randint(1, 3), self.draw, len(self.asked)
        names = [node.name for node in self.graph.plan.nodes]
        ids = [f"{ORIGIN}-{first + number}" for number in range(count)]
        self.asked += ids
        keyed = self.graph.plan.keyed
        keys = [f"k{draw.randint(0, 8)}" for _ in ids]
        tokens = [Token(key, draw.randint(0, 99), draw.randint(0, 3)) for key in keys]
        return Records(
            source=-1, origin=f"{ORIGIN}/{first}", offsets=list(range(first, first + count)), times=[self.now] * count,
            keys=[key.encode() if keyed else None for key in keys],
            values=[msgspec.json.encode(token) if draw.random() < 0.95 else b"{" for token in tokens],
            after=str(first + count), ids=ids, replies=["caller"] * count, unknown="execute/try/x",
            entry=Reentry(node=draw.choice([*names, "nobody"]), execute="try"),
        )  # fmt: skip


def check(seed: int, *, faults: bool, failures: bool) -> tuple[int, int]:
    draw = random.Random(seed)
    graph = random_graph(draw, failures=failures)
    log = random_log(draw)
    naive = Naive(graph)
    for source, value in log:
        naive.feed(source, value)
    world = ExecutingWorld(graph, log, draw, faults=faults)
    world.run()
    found = outcome(world)
    found.processed = type(found.processed)(
        {origin: position for origin, position in found.processed.items() if not origin.startswith(ORIGIN)}
    )
    answers = {name: found.answers.pop(name) for name in world.asked if name in found.answers}
    differences = same(found, naive.result)
    assert not differences, f"seed {seed}: {differences[0][:2000]}"
    if not (faults or world.core.ended):
        assert answers.keys() == set(world.asked), f"seed {seed}: some are not answered"
    kinds = [answer[0] for answer in answers.values()]
    assert set(kinds) <= {"executed", "failed", "ended"}, f"seed {seed}"
    return kinds.count("executed"), len(kinds)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_executions_in_any_graph_leave_everything_as_it_is_without_them(shard: int) -> None:
    executed = 0
    for number in range(GRAPHS // SHARDS):
        executed += check(shard * 1_000_000 + number, faults=number % 4 != 0, failures=number % 2 == 0)[0]

    assert executed, "none of the nodes had anything"
