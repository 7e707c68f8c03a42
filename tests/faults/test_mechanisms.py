"""G1, G3, G7: each story ends well, and ends badly once the mechanism that it rests on is taken out."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from driving import Log, World, outcome, same
from headrace.actors import store as store_module
from headrace.actors.loading import load_workflow
from headrace.actors.store import Store
from headrace.sources.connection import Script
from headrace.workflows.epoch import Epoch
from headrace.workflows.plan import Plan
from ledger import record, write_flow
from model import Naive, Token, random_graph
from owner import Owner, is_as_offline

COMMIT = Path(store_module.__file__).parent / "scripts" / "commit.lua"
Story = Callable[[Plan, Store, list[bytes]], Awaitable[None]]


@pytest.fixture
def log() -> list[bytes]:
    draw = random.Random(3)
    return [record(number, draw)[1] for number in range(150)]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = write_flow(tmp_path, f"readings-{tmp_path.name}", "alerts")
    return load_workflow(file.name, tmp_path)[1].compile(fuse="all")


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with Store(redis_url, "ledger") as store:
        yield store


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Take a line out of the commit script."""

    def take_out(line: str) -> None:
        text = COMMIT.read_text()
        assert text.count(line) == 1
        file = tmp_path / "commit.lua"
        file.write_text(text.replace(line, ""))
        monkeypatch.setattr(store_module, "_COMMIT", Script(file))

    return take_out


async def a_zombie_commits_after_it_was_replaced(plan: Plan, store: Store, log: list[bytes]) -> None:
    zombie = await Owner(plan, store, log).acquire(1)
    await zombie.take(50)
    await zombie.save()
    await zombie.take(50)
    owner = await Owner(plan, store, log).acquire(2)
    await owner.take(100)

    await zombie.save()
    await owner.save()
    await owner.finish()


async def test_G7_a_zombies_commit_is_refused(plan: Plan, store: Store, log: list[bytes]) -> None:
    await a_zombie_commits_after_it_was_replaced(plan, store, log)

    assert await is_as_offline(store, log)


async def test_G7_fails_without_the_owner_check(
    plan: Plan, store: Store, log: list[bytes], without: Callable[[str], None]
) -> None:
    without("if stored[2] ~= owner then return 'FENCED' end\n")

    await a_zombie_commits_after_it_was_replaced(plan, store, log)

    assert not await is_as_offline(store, log)


async def the_store_loses_its_last_commits(plan: Plan, store: Store, log: list[bytes]) -> None:
    owner = await Owner(plan, store, log).acquire(1)
    await owner.take(50)
    await owner.save()
    kept = {key: await store.client.dump(key) for key in await store.client.keys("hr:{*")}
    for _ in range(2):
        await owner.take(30)
        await owner.save()
    await store.client.flushdb()
    for key, blob in kept.items():
        await store.client.restore(key, 0, blob)

    await owner.finish()


async def test_G1_an_owner_whose_store_lost_its_tail_begins_again_there(
    plan: Plan, store: Store, log: list[bytes]
) -> None:
    await the_store_loses_its_last_commits(plan, store, log)

    assert await is_as_offline(store, log)


async def test_G1_fails_without_the_sequence_check(
    plan: Plan, store: Store, log: list[bytes], without: Callable[[str], None]
) -> None:
    without("if last ~= tonumber(sequence) - 1 then return 'ROLLED_BACK' end\n")

    await the_store_loses_its_last_commits(plan, store, log)

    assert not await is_as_offline(store, log)


async def an_owner_dies_right_after_its_commit(plan: Plan, store: Store, log: list[bytes]) -> None:
    owner = await Owner(plan, store, log).acquire(1)
    await owner.take(50)
    await owner.save()

    heir = await Owner(plan, store, log).acquire(2)
    await heir.finish()


async def test_G1_the_next_owner_begins_where_the_last_commit_ends(plan: Plan, store: Store, log: list[bytes]) -> None:
    await an_owner_dies_right_after_its_commit(plan, store, log)

    assert await is_as_offline(store, log)


async def test_G1_fails_when_positions_are_not_written_in_the_commit(
    plan: Plan, store: Store, log: list[bytes], without: Callable[[str], None]
) -> None:
    without("  write_hash(base .. 'positions', pairs_list(positions))\n")

    await an_owner_dies_right_after_its_commit(plan, store, log)

    assert not await is_as_offline(store, log)


GRAPHS = range(400)


def differs(seed: int, *, alter: Callable[[Plan], Plan] = lambda plan: plan) -> bool:
    """Does the core's result differ from that of one event after the other, in this random graph?"""
    draw = random.Random(seed)
    graph = random_graph(draw)
    keys = [f"k{number}" for number in range(4)]
    tokens = [Token(draw.choice(keys), draw.randint(0, 99), draw.randint(0, 3)) for _ in range(60)]
    log: Log = [(draw.randrange(2), msgspec.json.encode(token)) for token in tokens]
    naive = Naive(graph)
    for source, value in log:
        naive.feed(source, value)
    world = World(replace(graph, plan=alter(graph.plan)), log, draw, faults=False)
    try:
        world.run()
    except AssertionError:
        return True
    return bool(same(outcome(world), naive.result))


def test_G3_events_of_a_key_take_each_path_in_order() -> None:
    assert not any(differs(seed) for seed in GRAPHS)


def test_G3_fails_without_sorting_where_paths_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epoch, "order", lambda self, item: 0)

    assert any(differs(seed) for seed in GRAPHS)


def test_G3_fails_when_an_epoch_does_not_wait_for_the_one_before_it() -> None:
    def hasty(plan: Plan) -> Plan:
        return replace(plan, regions=tuple(replace(region, before=frozenset()) for region in plan.regions))

    assert any(differs(seed, alter=hasty) for seed in GRAPHS)
