"""A worker's line to replicas: who is away, and what is sent to whom."""

from __future__ import annotations

from typing import Any

from headrace.actors.closed_nodes import ClosedNodes
from headrace.actors.node_calls import NodeCalls
from headrace.workflows.calls import Call
from headrace.workflows.dispatch import Dispatch
from waiting import until_async

PLACE = (0, 0)


def ignore(*_: object) -> None:
    pass


def dispatch(number: int) -> Dispatch:
    call = Call(
        partition=0, unit=0, replica=0, number=number, owner="o", now=0, keys=["k"], numbers=[1], bases=[0],
        states=[None], shared=None, runs=[0], nodes=[0], types=[0], blobs=[b"1"], origins=["log"], origin_of=[0],
        offsets=[0], times=[0],
    )  # fmt: skip
    epoch: Any = None
    return Dispatch(call, None, epoch, [0], [])


class World:
    """One replica that is lost and found by hand; what is sent to it."""

    def __init__(self, deadline: float = 0.05) -> None:
        self.closed, self.told = ClosedNodes(), 0
        self.calls = NodeCalls(
            [PLACE], ignore, self.tell, ignore, closed=self.closed, deadline=deadline, opening=0.1
        )  # fmt: skip
        self.replica = self.calls._replicas[PLACE]
        self.sent: list[list[int]] = []

    def tell(self) -> None:
        self.told += 1

    def connect(self) -> None:
        self.replica.handle = "there"
        self.calls._is_there(self.replica)

    def lose(self) -> None:
        self.calls._give_up(self.replica)
        self.replica.handle = None
        self.calls._is_away(self.replica, self.calls._deadline)

    async def until_away(self) -> None:
        async def is_away() -> bool:
            return PLACE in self.closed.away

        await until_async(is_away, "it is taken for away")


async def test_a_replica_that_does_not_come_up_is_away_and_partitions_are_told() -> None:
    world = World()
    assert not world.calls.connected

    await world.until_away()
    assert world.told == 1
    assert world.calls.connected  # its events stand still: others are pulled
    assert world.calls.unreachable()[0].startswith("events stand still before node/0/0, away since ")

    world.connect()
    assert world.closed.away == frozenset()
    assert (world.told, world.calls.unreachable()) == (2, [])


async def test_a_replica_that_ends_with_the_same_call_again_and_again_is_away_though_it_comes_back_each_time() -> None:
    world = World(deadline=0.1)
    world.connect()
    call = dispatch(1)
    world.replica.attempts.append([call])

    world.lose()
    since = world.replica.away_since
    world.connect()  # its successor: it has the call again, and ends with it
    assert world.replica.away_since == since
    world.replica.waiting.clear()
    world.replica.attempts.append([call])
    world.lose()
    assert (world.replica.away_since, call.call.falls, call.sent) == (since, 2, 3)
    await world.until_away()


async def test_calls_that_were_given_up_are_not_sent_again() -> None:
    world = World()
    world.connect()
    given_up, other = dispatch(1), dispatch(2)
    world.replica.attempts.append([given_up, other])
    given_up.given_up = True

    world.lose()
    assert [row.call.number for row in world.replica.waiting] == [2]
    other.given_up = True
    assert world.calls.parked() == {0: 0}
    world.connect()
    assert world.replica.away_since is None
