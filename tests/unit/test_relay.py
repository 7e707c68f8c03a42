"""The relay: what it sends, what it tells partitions, and that no mistake of others ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.actors import relay as relay_module
from headrace.actors.relay import Refused, Relay
from headrace.workflows.commit import Output
from waiting import until_async


class Gate:
    """An outlet that lets a round through when it is opened, and fails when asked to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.sent: list[str] = []
        self.rounds = 0
        self.failures: list[Exception] = []

    async def send(self, outputs: Sequence[Output]) -> Sequence[Refused]:
        self.rounds += 1
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        self.sent += [output.id for output in outputs]
        return []

    async def close(self) -> None:
        pass


class Partition:
    number = 3

    def __init__(self, *failures: Exception) -> None:
        self.trimmed: list[int] = []
        self.failures = list(failures)

    async def delivered(self, through: int, refused: Sequence[Refused]) -> None:
        self.trimmed.append(through)
        if self.failures:
            raise self.failures.pop()


def outputs(*ids: str) -> list[Output]:
    return [Output(0, name, "k", 0, b"1") for name in ids]


async def test_a_partition_that_was_dropped_while_its_outputs_left_hears_nothing_of_them() -> None:
    gate, partition = Gate(), Partition()
    relay = Relay(gate, lambda word, sentence: None, lambda: None)
    relay.start()
    relay.push(partition, 7, outputs("a", "b"))
    await until_async(lambda: gate.rounds == 1, "they are under way")

    relay.drop(partition)  # rolled back: the store has forgotten 7 and 8, and gives them to others
    relay.push(partition, 7, outputs("c"))
    gate.open.set()

    await until_async(lambda: partition.trimmed, "the later ones have left")
    assert partition.trimmed == [7]
    assert relay.waiting(3) == 0
    await relay.close()


async def test_the_relay_goes_on_after_mistakes_of_others() -> None:
    gate, partition = Gate(), Partition(RuntimeError("bad trim"))
    gate.failures, problems = [RuntimeError("bad send")], []
    relay = Relay(gate, lambda word, sentence: problems.append((word, sentence)), lambda: None)
    relay.start()
    gate.open.set()

    relay.push(partition, 1, outputs("a"))
    await until_async(lambda: gate.sent == ["a"], "the first has left")
    relay.push(partition, 2, outputs("b"))
    await until_async(lambda: partition.trimmed == [1, 2], "the second, too")

    assert ("relay_blocked", "1 outputs wait for their sink: bad send") in problems
    await relay.close()


async def test_it_is_full_by_number_or_size_and_tells_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "BACKLOG", 3)
    gate, partition, rooms = Gate(), Partition(), []
    relay = Relay(gate, lambda word, sentence: None, lambda: rooms.append(relay.full))
    relay.start()

    relay.push(partition, 1, outputs("a", "b", "c"))
    assert not relay.full
    relay.push(partition, 4, outputs("d"))
    assert relay.full
    gate.open.set()

    await until_async(lambda: partition.trimmed[-1:] == [4], "all have left")
    assert rooms == [False]
    relay.push(partition, 5, [Output(0, "e", "k", 0, bytes(relay_module.BACKLOG_BYTES + 1))])
    assert relay.full
    relay.drop(partition)
    assert not relay.full
    await relay.close()
