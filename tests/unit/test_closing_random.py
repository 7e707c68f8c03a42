"""Nodes that get no events, at any moment and for however long: each event once, those of a key in order."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from driving import World, run_call
from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Node, Retry, Workflow
from headrace.workflows.calls import CLOSED, CallResult
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.parking import decode

SEEDS = int(os.environ.get("HEADRACE_RANDOM_GRAPHS", "5000")) // 10
SHARDS = 5
NODES = ("one", "two", "three")


class Token(msgspec.Struct, frozen=True):
    key: str
    number: int


class Seen(msgspec.Struct):
    numbers: list[int] = []


class Note(Node[Token, list[int], Token]):
    """Keeps what it has seen, in order."""

    def process(self, event: Event[Token], ctx: Context[list[int], Any]) -> Token:
        ctx.state.append(event.data.number)
        if ctx.run.state is not None:
            ctx.run.state.numbers.append(event.data.number)
        return event.data


class Moody(Note):
    """The same, and fails for a time now and then."""

    def process(self, event: Event[Token], ctx: Context[list[int], Any]) -> Token:
        result = super().process(event, ctx)
        if event.data.number % 4 == 0 and ctx.attempt < 3:
            raise OSError("not now")
        return result


class Patiently(Note):
    """The same, async."""

    async def process(self, event: Event[Token], ctx: Context[list[int], Any]) -> Token:  # type: ignore[override]
        return super().process(event, ctx)


class Together(BatchNode[Token, list[int], Token]):
    """The same, in batches."""

    def process(self, events: list[Event[Token]], ctxs: list[Context[list[int], Any]]) -> list[Token]:  # type: ignore[override]
        return [Note.process(self, event, ctx) for event, ctx in zip(events, ctxs, strict=True)]  # type: ignore[arg-type]


def chain(draw: random.Random) -> Any:
    """One after the other, fused or not, with any kind of node."""
    shares = draw.random() < 0.4
    workflow = Workflow("tokens", state=Seen if shares else None, partitions=1)
    last: Any = workflow.source(KafkaSource("tokens0", Token, key="key"))
    nodes = []
    for name in NODES:
        kind = draw.choice([Note, Note, Moody, Patiently, Together])
        options: Any = {"retry": Retry(5, on=(OSError,))} if kind is Moody else {}
        if draw.random() < 0.3:
            options["replicas"] = 2
        node = workflow.node(kind(), name=name, **options)
        last.to(node)
        nodes.append(node)
        last = node
    last.to(workflow.sink(KafkaSink("out", Token)))
    return workflow.compile(fuse="all" if draw.random() < 0.4 else None)


class Closing(World):
    """Closes and opens nodes at any step; results come late, also those that nobody waits for any more."""

    closes = True
    paused: tuple[str, ...] = ()

    def acquire(self) -> None:
        super().acquire()
        self.core.closing.set((), self.paused, self.now)

    def step(self, exhausted: bool) -> None:
        if self.closes and self.draw.random() < 0.1:
            places = [(unit.index, number) for unit in self.graph.plan.units for number in range(unit.replicas)]
            self.paused = tuple(name for name in NODES if self.draw.random() < 0.2)
            self.core.closing.set([place for place in places if self.draw.random() < 0.2], self.paused, self.now)
        else:
            super().step(exhausted)

    def do(self, instruction: Any) -> None:
        if isinstance(instruction, CallResult):
            self.core.finished(instruction, self.now)
        else:
            super().do(instruction)

    def call(self, dispatch: Dispatch) -> None:
        if dispatch.given_up and self.draw.random() < 0.5:
            return  # it never reached its replica
        if self.draw.random() < 0.7:
            super().call(dispatch)
            return
        call = dispatch.call
        place = (call.unit, call.replica)
        if place not in self.runners:
            super().call(dispatch)
        else:
            self.todo.append(run_call(self.runners[place], call, dispatch.data))


def check(seed: int) -> int:
    """Returns how many have stood still before a closed node."""
    draw = random.Random(seed)
    plan = chain(draw)
    keys = [f"k{number}" for number in range(draw.randint(1, 4))]
    tokens = [Token(draw.choice(keys), number) for number in range(draw.randint(1, 60))]
    log = [(0, msgspec.json.encode(token)) for token in tokens]
    graph: Any = SimpleNamespace(plan=plan)
    limits = {"soon_from": draw.choice([1, 1000]), "soon": draw.choice([250, 5000, 100_000])}
    world = Closing(graph, [], draw, faults=seed % 3 != 0, **limits)
    world.orderly = False
    cut = draw.randint(0, len(log))
    stood = 0
    for part in (log[:cut], log[cut:]):
        world.go_on(part)
        world.run()
        blobs = world.store.parked(0, world.store.parked_fields(0))
        stood += sum(decode(blob).reason in CLOSED for blob in blobs if blob is not None)
    world.closes, world.paused = False, ()
    world.core.closing.set((), (), world.now)
    world.run()
    while world.tick():
        world.run()

    assert not world.store.parked_fields(0), f"seed {seed}"
    expected = defaultdict(list)
    for token in tokens:
        expected[token.key].append(token.number)
    for key, numbers in expected.items():
        fields = world.store.run(0, key)
        for name in NODES:
            assert msgspec.json.decode(fields[f"node:{name}"]) == numbers, f"seed {seed}: {key} at {name}"
        if plan.run_state is not None:
            assert sorted(msgspec.json.decode(fields["state"])["numbers"]) == sorted(numbers * len(NODES))
    left = defaultdict(list)
    for output in world.store.outputs(0):
        left[output.key].append(msgspec.json.decode(output.data, type=Token).number)
    assert left == expected, f"seed {seed}"
    assert not world.store.dead_letters(0)
    return stood


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_closing_of_nodes_leaves_each_event_once_and_in_order(shard: int) -> None:
    stood = sum(check(shard * 1_000_000 + number) for number in range(SEEDS // SHARDS))

    assert stood > 0
