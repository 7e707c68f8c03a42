"""A hot key in a serial graph of several processes: how long the others of its epochs wait for it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from headrace import Context, Event, KafkaSource, Workflow
from headrace.actors.sizing import LEAST, TURNS, Sizing
from headrace.workflows.commit import Commit
from headrace.workflows.instructions import Load
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save

NOW = 1_700_000_000_000


class Reading(msgspec.Struct, frozen=True):
    key: str


class Seen(msgspec.Struct):
    count: int = 0


def first(event: Event[Reading], ctx: Context[None, Seen]) -> Reading:
    ctx.run.state.count += 1
    return event.data


def second(event: Event[Reading], ctx: Context[None, Seen]) -> None:
    ctx.run.state.count += 1


def rounds_of(hot: float, events: int, fuse: Any = None) -> list[tuple[int, int]]:
    """Work off a backlog of which so great a part is of one key, with epochs as the sizing says.

    Returns:
        By commit: its events, and after how many rounds of calls it came. All calls of a round are under way together.
    """
    workflow = Workflow("hot", partitions=1, state=Seen, fuse=fuse)
    begins, ends = workflow.node(first), workflow.node(second)
    workflow.source(KafkaSource("readings", Reading, key="key")).to(begins)
    begins.to(ends)
    plan, store, sizing = workflow.compile(), MemoryStore(workflow="hot"), Sizing()
    core = PartitionCore(plan, 0, 1, store.acquire(0, term=1, placement=1, worker="w"))
    runners = [UnitRunner(plan, unit.index) for unit in plan.units]
    draw = random.Random(7)
    values: list[bytes | None] = [
        msgspec.json.encode(Reading("hot" if draw.random() < hot else f"key-{number}")) for number in range(events)
    ]
    at, found = 0, list[tuple[int, int]]()
    while at < events:
        count = min(sizing.limit, events - at)
        part, at = range(at, at + count), at + count
        records = Records(
            0, "readings/0", list(part), [NOW] * count, [None] * count, values[part.start : part.stop], str(at)
        )
        core.offer([records], NOW)
        rounds = 0
        while not core.idle:
            calls = []
            for instruction in core.instructions():
                if isinstance(instruction, Load):
                    core.loaded(instruction.keys, store.load(0, instruction.keys), NOW)
                elif isinstance(instruction, Save):
                    sizing.learn_commit(instruction)
                    found.append((count, rounds))
                    assert core.committed(store.commit(0, core.owner, instruction.commit), NOW)
                else:
                    calls.append(instruction)
            rounds += bool(calls)
            for dispatch in calls:
                core.finished(runners[dispatch.call.unit].run(dispatch.call), NOW)
    return found


def test_epochs_are_cut_so_that_the_others_wait_for_a_few_of_its_events_only() -> None:
    begun = rounds_of(0.5, 5_000)[5:]

    assert max(rounds for _, rounds in begun) <= 2 * 2 * TURNS
    assert min(events for events, _ in begun[:-1]) >= LEAST, "and not for less than is worth a commit"


@pytest.mark.parametrize(("hot", "fuse"), [(0.0, None), (0.5, "all")])
def test_without_one_and_where_all_is_in_one_process_they_are_as_large_as_ever(hot: float, fuse: Any) -> None:
    assert len(rounds_of(hot, 5_000, fuse)) <= 10


def test_they_grow_again_when_it_is_no_longer_hot() -> None:
    sizing = Sizing()
    for _ in range(20):
        sizing.learn_commit(save_of(sizing.limit, longest=sizing.limit // 2))
    at_first = sizing.limit

    for _ in range(40):
        sizing.learn_commit(save_of(sizing.limit, longest=1))

    assert at_first <= 2 * TURNS + 2
    assert sizing.limit > 20 * at_first


def test_a_few_events_of_one_key_are_no_hot_key() -> None:
    sizing = Sizing()
    for _ in range(200):
        sizing.learn_commit(save_of(2, longest=2))

    assert sizing.limit >= 32


def save_of(events: int, longest: int) -> Save:
    return Save(Commit(1), 1, events, longest=longest)
