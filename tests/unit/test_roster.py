"""The supervisor's decisions, without a process: deaths, silence, stores that go away, supervisors that follow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.actors.roster import STARTS_PER_TERM, backoff
from headrace.actors.spec import Done, NodeFailed, PartitionLost, Problem, UnitSpec
from shell_world import ShellWorld, deployment


def test_everything_is_served_placed_and_one_spare_kept() -> None:
    world = ShellWorld(deployment(partitions=5, workers=2, nodes=2))

    status = world.settle()

    assert status.state == "running"
    assert [row.name for row in status.roles] == ["worker/0", "worker/1", "n0/0", "n1/0", "spare"]
    assert world.holder("worker/0").owned | world.holder("worker/1").owned == set(range(5))


def test_partitions_wait_until_all_workers_are_there_so_that_none_moves_at_the_start() -> None:
    world = ShellWorld(deployment(partitions=4, workers=2))

    world.settle()

    assert world.roster.placement == 1


def test_a_dead_node_is_replaced_by_the_spare_within_one_step() -> None:
    world = ShellWorld(deployment())
    world.settle()
    spare = world.spare()

    world.kill(world.holder("node/0/0").actor)
    world.step()

    assert world.holder("node/0/0") is spare
    world.settle(1)
    address = world.holder("worker/0").nodes[0][0]
    assert address is not None
    assert address.incarnation == spare.incarnation


def test_a_dead_workers_partitions_go_to_the_spare_and_nothing_else_moves() -> None:
    world = ShellWorld(deployment(partitions=4))
    world.settle()
    others = set(world.holder("worker/1").owned)
    lost = set(world.holder("worker/0").owned)

    world.kill(world.holder("worker/0").actor)
    world.settle(1)

    assert world.holder("worker/0").owned == lost
    assert world.holder("worker/1").owned == others


def test_without_a_spare_the_survivor_takes_the_partitions_and_gives_them_back() -> None:
    world = ShellWorld(deployment(partitions=4, spares=0))
    world.settle()
    world.no_room = True

    world.kill(world.holder("worker/0").actor)
    world.settle(1)
    assert world.holder("worker/1").owned == {0, 1, 2, 3}

    world.no_room = False
    for actor in [name for name, process in world.roster.processes.items() if process.state == "starting"]:
        world.roster.died(actor, "no room", world.now)
    world.settle(10)
    assert len(world.holder("worker/0").owned) == len(world.holder("worker/1").owned) == 2


def test_a_silent_process_is_replaced_before_it_is_killed() -> None:
    world = ShellWorld(deployment())
    world.settle()
    silent = world.holder("worker/0")

    silent.suspended = True
    world.settle(2)

    assert world.holder("worker/0") is not silent
    world.settle(1)
    assert silent.actor not in world.shells


def test_a_store_that_was_away_makes_nobody_look_dead() -> None:
    world = ShellWorld(deployment())
    world.settle()
    starts = world.starts

    world.store_away = True
    assert [row.word for row in world.settle(20).problems] == ["store_unreachable"]
    world.store_away = False
    # The store lost its leases: they come back within their period.
    for process in world.roster.processes.values():
        process.absent_since = None
    status = world.settle(5)

    assert status.state == "running"
    assert world.starts == starts


def test_a_new_supervisor_adopts_what_runs() -> None:
    world = ShellWorld(deployment(partitions=4, nodes=2))
    world.settle()
    before = {role: world.holder(role).actor for role in ("worker/0", "worker/1", "node/0/0", "node/1/0")}
    owned = {role: set(world.holder(role).owned) for role in ("worker/0", "worker/1")}
    starts = world.starts

    world.supervisor_dies()
    status = world.settle(10)

    assert status.state == "running"
    assert {role: world.holder(role).actor for role in before} == before
    assert {role: world.holder(role).owned for role in owned} == owned
    assert world.starts == starts


def test_a_new_supervisor_replaces_what_does_not_answer() -> None:
    world = ShellWorld(deployment())
    world.settle()
    silent = world.holder("node/0/0")
    silent.suspended = True

    world.supervisor_dies()
    world.settle(10)

    assert world.holder("node/0/0") is not silent
    assert silent.actor not in world.shells


def test_later_processes_have_larger_incarnations_over_supervisors() -> None:
    world = ShellWorld(deployment())
    world.settle()
    largest = max(shell.incarnation for shell in world.shells.values())

    world.supervisor_dies()
    world.kill(world.holder("node/0/0").actor) if world.roster.slots["node/0/0"].serving else None
    world.settle(10)

    assert max(shell.incarnation for shell in world.shells.values()) > largest
    assert largest < 2 * STARTS_PER_TERM


def test_a_node_that_cannot_open_is_named_and_tried_ever_more_slowly() -> None:
    world = ShellWorld(deployment())
    world.broken["node/0/0"] = Problem(where="node/0/0", word="open", sentence="OSError: no model")

    status = world.settle(60)
    tries = sum(role == "node/0/0" for role, _ in world.given)

    assert status.state == "degraded"
    assert [(row.where, row.sentence) for row in status.problems] == [("n0/0", "OSError: no model")]
    assert 5 <= tries <= 12
    del world.broken["node/0/0"]
    assert world.settle(40).state == "running"


def test_backoff_lets_the_first_retry_pass_and_then_doubles() -> None:
    assert [backoff(failures) for failures in range(6)] == [0, 0, 0.5, 1, 2, 4]
    assert backoff(50) == 30


def test_a_workers_report_counts_only_for_the_process_it_met() -> None:
    world = ShellWorld(deployment())
    world.settle()
    node = world.holder("node/0/0")

    world.roster.reported(NodeFailed(unit=0, replica=0, incarnation=node.incarnation - 1), world.now)
    world.step()
    assert world.holder("node/0/0") is node

    world.roster.reported(NodeFailed(unit=0, replica=0, incarnation=node.incarnation), world.now)
    world.step()
    assert world.holder("node/0/0") is not node


def test_a_worker_that_gave_up_a_living_node_is_told_again() -> None:
    world = ShellWorld(deployment())
    world.settle()
    worker = world.holder("worker/0")
    worker.nodes = {0: [None]}

    world.settle(6)

    address = worker.nodes[0][0]
    assert address is not None
    assert address.actor == world.holder("node/0/0").actor


def test_a_lost_partition_is_given_back_under_a_newer_placement() -> None:
    world = ShellWorld(deployment())
    world.settle()
    worker = world.holder("worker/0")
    lost = next(iter(worker.owned))
    placement = world.roster.placement
    worker.owned.discard(lost)

    world.roster.reported(PartitionLost(actor=worker.actor, partition=lost, reason="FENCED"), world.now)
    assert world.status().unplaced == (lost,)
    world.settle(2)

    assert lost in worker.owned
    assert world.roster.placement > placement


def test_a_planned_crash_is_for_the_first_process_of_a_role_only() -> None:
    world = ShellWorld(deployment(crash_at={"worker/0": "after:commit:3"}))
    world.settle()
    assert world.holder("worker/0").crash_at == "after:commit:3"

    world.kill(world.holder("worker/0").actor)
    world.settle(5)

    assert world.holder("worker/0").crash_at is None


def test_a_unit_with_resources_gets_processes_of_its_own_and_its_lack_of_them_is_named() -> None:
    units = (UnitSpec(index=0, name="score", resources={"num_gpus": 1.0}),)
    world = ShellWorld(deployment(units=units, spares=0))
    world.no_room = True

    status = world.settle(20)

    assert [row.word for row in status.problems if "num_gpus=1.0" in row.sentence] == ["starting"]
    reserved = [process for process in world.roster.processes.values() if process.reserved is not None]
    assert len(reserved) == 1


def test_stopping_drains_workers_and_starts_nothing() -> None:
    world = ShellWorld(deployment())
    world.settle()
    starts = world.starts

    world.roster.stopping = True
    world.settle(2)
    world.kill(world.holder("node/0/0").actor)
    status = world.settle(2)

    assert status.state == "stopping"
    assert world.holder("worker/0").owned == set()
    assert world.starts == starts


faults = st.sampled_from(["kill", "suspend", "supervisor", "away", "back", "wait", "long wait"])


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 7),
    st.lists(st.tuples(faults, st.integers(0, 9)), max_size=12),
)
def test_whatever_happens_everything_is_served_in_the_end_by_one_each(
    workers: int, nodes: int, partitions: int, story: list[tuple[str, int]]
) -> None:
    world = ShellWorld(deployment(partitions=partitions, workers=workers, nodes=nodes))
    world.settle(5)

    for fault, which in story:
        _happen(world, fault, which)
    world.store_away = False
    status = world.settle(90)

    assert status.state == "running", status
    owned = [number for index in range(workers) for number in world.holder(f"worker/{index}").owned]
    assert sorted(owned) == list(range(partitions))
    assert sum(shell.role is None for shell in world.shells.values()) == 1
    for index in range(workers):
        for unit, row in world.holder(f"worker/{index}").nodes.items():
            assert [address and address.actor for address in row] == [world.holder(f"node/{unit}/0").actor]


def _happen(world: ShellWorld, fault: str, which: int) -> None:
    shells = list(world.shells.values())
    match fault:
        case "kill" if shells:
            world.kill(shells[which % len(shells)].actor)
        case "suspend" if shells:
            shells[which % len(shells)].suspended = True
        case "supervisor":
            world.supervisor_dies()
        case "away" | "back":
            world.store_away = fault == "away"
        case "wait":
            world.step()
        case "long wait":
            world.settle(which)


def test_a_partition_lost_before_its_assignment_is_answered_is_placed_again() -> None:
    world = ShellWorld(deployment(partitions=2, workers=1, nodes=0))
    world.settle()
    actor = world.holder("worker/0").actor
    world.roster.partitions[1].owner, world.roster.partitions[1].asked = None, actor

    world.roster.reported(PartitionLost(actor=actor, partition=1, reason="FENCED"), world.now)
    world.roster.assigned(actor, [1], Done(), world.now)

    assert world.status().unplaced == (1,)
    assert world.settle(5).unplaced == ()


def test_a_partition_whose_loss_was_never_reported_is_found_out_by_the_workers_status() -> None:
    world = ShellWorld(deployment(partitions=2, workers=1, nodes=0))
    world.settle()
    worker = world.holder("worker/0")
    worker.owned.discard(1)

    assert world.settle(10).unplaced == ()

    assert worker.owned == {0, 1}
