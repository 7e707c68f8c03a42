"""A change of what runs, without processes: who stays, comes and leaves; what a version that can't start does."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.actors.changing import begin
from headrace.actors.spec import CodeRef, Deployment, Nodes, PartitionReleased, Problem, Revoke, UnitSpec
from shell_world import ShellWorld, deployment

NEXT = CodeRef(folder="/", module="m", version="v2")


def changed(world: ShellWorld, **fields: Any) -> Deployment:
    """Say that this is to run."""
    before = world.roster.deployment
    after = msgspec.structs.replace(before, revision=before.revision + 1, **fields)
    begin(world.roster, after, world.now)
    return after


def actors(world: ShellWorld, *roles: str) -> list[str]:
    return [world.holder(role).actor for role in roles]


def all_owned(world: ShellWorld, workers: int) -> list[int]:
    return sorted(number for index in range(workers) for number in world.holder(f"worker/{index}").owned)


def test_more_workers_share_the_partitions_and_nobody_that_served_is_started_again() -> None:
    world = ShellWorld(deployment(partitions=4, workers=1))
    world.settle()
    before = actors(world, "worker/0", "node/0/0")

    changed(world, workers=4)
    status = world.settle()

    assert (status.state, status.revision, status.coming) == ("running", 1, "")
    assert actors(world, "worker/0", "node/0/0") == before
    assert [len(world.holder(f"worker/{index}").owned) for index in range(4)] == [1, 1, 1, 1]


def test_fewer_workers_take_over_and_those_that_are_too_many_end() -> None:
    world = ShellWorld(deployment(partitions=4, workers=4))
    world.settle()
    before = actors(world, "worker/0")

    changed(world, workers=1)
    world.settle()

    assert actors(world, "worker/0") == before
    assert world.holder("worker/0").owned == {0, 1, 2, 3}
    assert len(world.shells) == 3, "a worker, a node, a spare"


def test_other_replicas_keep_the_nodes_that_are_there_and_get_new_workers() -> None:
    world = ShellWorld(deployment())
    world.settle()
    node, worker = actors(world, "node/0/0", "worker/0")

    changed(world, units=(UnitSpec(index=0, name="n0", replicas=3),))
    world.settle()

    assert actors(world, "node/0/0") == [node]
    assert actors(world, "worker/0") != [worker]
    row = world.holder("worker/0").nodes[0]
    assert [address and address.actor for address in row] == actors(world, "node/0/0", "node/0/1", "node/0/2")


def test_a_partition_has_its_old_owner_until_all_of_the_next_version_is_there() -> None:
    world = ShellWorld(deployment())
    world.settle()
    before = actors(world, "worker/0", "worker/1", "node/0/0")
    world.no_room = True

    changed(world, code=NEXT)
    status = world.settle()

    assert actors(world, "worker/0", "worker/1", "node/0/0") == before
    assert all_owned(world, 2) == [0, 1, 2, 3]
    assert status.ready
    assert "version v2: 0 of 3" in status.coming


def test_a_new_version_takes_over_and_nothing_of_the_old_one_is_left() -> None:
    world = ShellWorld(deployment())
    world.settle()

    changed(world, code=NEXT)
    status = world.settle()

    assert (status.state, status.version, status.coming) == ("running", "v2", "")
    assert {shell.version for shell in world.shells.values()} == {"v2"}
    assert all_owned(world, 2) == [0, 1, 2, 3]


def test_the_old_version_is_served_as_before_while_the_next_one_does_not_open() -> None:
    world = ShellWorld(deployment())
    world.settle()
    world.broken["node/0/0"] = Problem(where="node/0/0", word="open", sentence="OSError: no model")
    changed(world, code=NEXT)
    status = world.settle()
    assert ("next n0/0", "OSError: no model") in [(row.where, row.sentence) for row in status.problems]

    world.kill(world.holder("worker/0").actor)
    world.settle(10)
    assert world.holder("worker/0").version == "v1"
    assert all_owned(world, 2) == [0, 1, 2, 3]

    changed(world)
    status = world.settle()
    assert (status.version, status.coming, status.problems) == ("v1", "", ())
    assert {shell.version for shell in world.shells.values()} == {"v1"}


def test_a_spare_that_nobody_asks_for_any_more_ends() -> None:
    world = ShellWorld(deployment(spares=2))
    world.settle()
    assert len(world.shells) == 5, "two workers, a node, two spares"

    changed(world, spares=1)
    world.settle(20)

    assert len(world.shells) == 4
    assert [process.state for process in world.roster.processes.values()].count("spare") == 1


def test_a_new_supervisor_takes_no_process_of_another_version_for_its_own() -> None:
    world = ShellWorld(deployment())
    world.settle()
    after = changed(world, code=NEXT)

    world.supervisor_dies(after)
    status = world.settle()

    assert (status.state, status.version) == ("running", "v2")
    assert {shell.version for shell in world.shells.values()} == {"v2"}


def test_a_partition_goes_over_as_soon_as_it_is_drained_whatever_the_others_do() -> None:
    world = ShellWorld(deployment(workers=1))
    world.settle()
    old = world.holder("worker/0").actor
    world.unanswered.add(Revoke)
    changed(world, code=NEXT)
    world.settle(2)
    assert world.holder("worker/0").owned == set()

    released = PartitionReleased(actor=old, partition=2, placement=world.roster.partitions[2].placement)
    world.roster.reported(released, world.now)
    world.step()

    assert world.holder("worker/0").owned == {2}
    assert [partition.owner for partition in world.roster.partitions] == [old, old, world.holder("worker/0").actor, old]


def test_what_was_released_in_an_earlier_placement_says_nothing() -> None:
    world = ShellWorld(deployment(workers=1))
    world.settle()
    old = world.holder("worker/0").actor
    world.unanswered.add(Revoke)
    changed(world, code=NEXT)
    world.settle(2)

    earlier = world.roster.partitions[2].placement - 1
    world.roster.reported(PartitionReleased(actor=old, partition=2, placement=earlier), world.now)
    world.step()

    assert world.roster.partitions[2].owner == old


def test_partitions_stay_until_the_next_workers_have_lines_to_their_nodes() -> None:
    world = ShellWorld(deployment(workers=1))
    world.settle()
    old = world.holder("worker/0")
    world.unanswered.add(Nodes)
    changed(world, code=NEXT)
    world.settle(3)
    assert old.owned == {0, 1, 2, 3}
    assert world.status().coming == "version v2: 2 of 2 processes are ready"

    world.unanswered.clear()
    status = world.settle()

    assert (status.version, status.coming) == ("v2", "")
    assert old.actor not in world.shells


def test_a_spare_does_not_start_while_partitions_go_over() -> None:
    world = ShellWorld(deployment(workers=1))
    world.settle()
    world.unanswered.add(Revoke)
    changed(world, code=NEXT)
    world.settle(3)
    assert {shell.version for shell in world.shells.values() if shell.role is None} == set()

    world.unanswered.clear()
    world.settle(20)

    assert world.spare().version == "v2"


events = st.sampled_from(
    ["workers", "replicas", "version", "back", "kill", "suspend", "supervisor", "wait", "long wait"]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(events, st.integers(0, 9)), max_size=12))
def test_whatever_is_changed_and_whoever_dies_meanwhile_all_is_served_by_one_each(story: list[tuple[str, int]]) -> None:
    world = ShellWorld(deployment(partitions=5))
    world.settle(5)
    wanted = world.roster.deployment

    for kind, which in story:
        wanted = _happen(world, wanted, kind, which)
    begin(world.roster, wanted, world.now)
    status = world.settle(120)

    assert status.state == "running", status
    assert status.coming == ""
    assert world.roster.deployment == wanted
    assert all_owned(world, wanted.workers) == [0, 1, 2, 3, 4]
    assert {shell.version for shell in world.shells.values()} == {wanted.code.version}
    assert len(world.shells) == wanted.workers + wanted.units[0].replicas + wanted.spares


def _happen(world: ShellWorld, wanted: Deployment, kind: str, which: int) -> Deployment:
    shells = list(world.shells.values())
    fields: dict[str, Any] = {}
    match kind:
        case "workers":
            fields["workers"] = which % 4 + 1
        case "replicas":
            fields["units"] = (UnitSpec(index=0, name="n0", replicas=which % 3 + 1),)
        case "version" | "back":
            fields["code"] = msgspec.structs.replace(NEXT, version=f"v{which % 3}")
        case "kill" if shells:
            world.kill(shells[which % len(shells)].actor)
        case "suspend" if shells:
            shells[which % len(shells)].suspended = True
        case "supervisor":
            world.supervisor_dies(wanted)
        case "wait":
            world.step()
        case "long wait":
            world.settle(which)
    if fields:
        wanted = msgspec.structs.replace(wanted, revision=wanted.revision + 1, **fields)
        begin(world.roster, wanted, world.now)
    return wanted
