"""The relay: what it sends, what it tells partitions, and that no mistake of others ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from headrace.actors import backlog
from headrace.actors import relay as relay_module
from headrace.actors.relay import Relay
from headrace.sources.outlet import Outlet, Portion, Refused
from headrace.workflows.commit import Output
from waiting import until_async


class Gate:
    """An outlet that lets a round through when it is opened, and fails or refuses when asked to."""

    def __init__(self, name: str = "gate", *, transactional: bool = False) -> None:
        self.name = name
        self.transactional = transactional
        self.open_gate = asyncio.Event()
        self.sent: list[str] = []
        self.rounds: list[dict[int, int]] = []
        """Of each round: partition -> through."""
        self.under_way = self.most_under_way = 0
        self.failures: list[Exception] = []
        self.refuses: set[str] = set()
        self.has: dict[int, int] = {}
        """Partition -> sequence that the sink remembers."""
        self.calls: list[str] = []

    async def open(self) -> None:
        pass

    async def begin(self, partition: int, last: int) -> int:
        self.calls.append(f"begin {partition}")
        return min(self.has.get(partition, 0), last)

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        self.rounds.append({number: portion.through for number, portion in portions.items()})
        self.calls.append(f"send {sorted(portions)}")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.open_gate.wait()
        self.under_way -= 1
        if self.failures:
            raise self.failures.pop()
        outputs = [output for portion in portions.values() for output in portion.outputs]
        refused = [Refused(output, "no") for output in outputs if output.id in self.refuses]
        if not (refused and self.transactional):
            self.sent += [output.id for output in outputs if output.id not in self.refuses]
            self.has.update(self.rounds[-1])
        return refused

    async def drop(self, partition: int) -> None:
        self.calls.append(f"drop {partition}")

    async def close(self) -> None:
        pass


class Partition:
    """An origin that writes down what it hears."""

    def __init__(self, number: int = 3, *failures: Exception) -> None:
        self.number = number
        self.owner = "owner"
        self.trimmed: list[int] = []
        self.failures = list(failures)
        self.buried: list[tuple[int, str]] = []
        self.is_ours = True
        self.asked = 0

    async def confirm(self) -> bool:
        self.asked += 1
        return self.is_ours

    async def delivered(self, through: int) -> None:
        self.trimmed.append(through)
        if self.failures:
            raise self.failures.pop()

    async def refused(self, rows: Sequence[tuple[int, Refused]], outlet: str) -> bool:
        self.buried += [(sequence, row.output.id) for sequence, row in rows]
        return True


def outputs(*ids: str, sink: int = 0) -> list[Output]:
    return [Output(sink, name, "k", 0, b"1") for name in ids]


def by_sink(output: Output) -> int:
    return output.sink


async def relay_of(*outlets: Outlet, problems: list[tuple[str, str]] | None = None) -> Relay:
    told = problems if problems is not None else []
    relay = Relay(outlets, by_sink, lambda word, sentence: told.append((word, sentence)), lambda: None)
    await relay.open()
    return relay


async def test_a_partition_that_was_dropped_while_its_outputs_left_hears_nothing_of_them() -> None:
    gate, partition = Gate(), Partition()
    relay = await relay_of(gate)
    relay.stay(partition, 0)
    relay.push(partition, 7, outputs("a", "b"))
    await until_async(lambda: gate.rounds, "they are under way")

    relay.drop(partition)  # rolled back: the store has forgotten 7 and 8, and gives them to others
    relay.stay(partition, 0)
    relay.push(partition, 7, outputs("c"))
    gate.open_gate.set()

    await until_async(lambda: partition.trimmed, "the later ones have left")
    assert partition.trimmed == [7]
    assert relay.waiting(3) == 0
    assert gate.calls == ["begin 3", "send [3]", "drop 3", "begin 3", "send [3]"]
    await relay.close()


async def test_the_relay_goes_on_after_mistakes_of_others() -> None:
    problems: list[tuple[str, str]] = []
    gate, partition = Gate(), Partition(3, RuntimeError("bad trim"))
    gate.failures = [RuntimeError("bad send")]
    relay = await relay_of(gate, problems=problems)
    relay.stay(partition, 0)
    gate.open_gate.set()

    relay.push(partition, 1, outputs("a"))
    await until_async(lambda: gate.sent == ["a"], "the first has left")
    relay.push(partition, 2, outputs("b"))
    await until_async(lambda: partition.trimmed == [1, 2], "the second, too")

    assert problems == [("relay_blocked", "1 outputs wait for gate: bad send"), ("relay_blocked", "")]
    await relay.close()


async def test_it_is_full_by_number_or_size_and_tells_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BACKLOG", 3)
    gate, partition, rooms = Gate(), Partition(), []
    relay = Relay([gate], by_sink, lambda word, sentence: None, lambda: rooms.append(relay.full))
    await relay.open()
    relay.stay(partition, 0)

    relay.push(partition, 1, outputs("a", "b", "c"))
    assert not relay.full
    relay.push(partition, 4, outputs("d"))
    assert relay.full
    gate.open_gate.set()

    await until_async(lambda: partition.trimmed[-1:] == [4], "all have left")
    assert rooms == [False]
    relay.push(partition, 5, [Output(0, "e", "k", 0, bytes(backlog.BACKLOG_BYTES + 1))])
    assert relay.full
    relay.drop(partition)
    assert not relay.full
    await relay.close()


async def test_an_outlet_that_is_blocked_holds_up_no_other_but_keeps_the_outbox() -> None:
    blocked, open_, partition = Gate("blocked"), Gate("open"), Partition()
    relay = await relay_of(blocked, open_)
    relay.stay(partition, 0)
    open_.open_gate.set()

    relay.push(partition, 1, [*outputs("a", sink=1), *outputs("b", sink=0), *outputs("c", sink=1)])
    await until_async(lambda: open_.sent == ["a", "c"], "one of them sends")

    assert relay.waiting(3) == 1
    await until_async(lambda: partition.trimmed == [1], "what is before the one that waits may go")
    blocked.open_gate.set()
    await until_async(lambda: partition.trimmed == [1, 3], "all have left")
    await relay.close()


async def test_a_transactional_outlet_gets_partitions_one_by_one_several_at_a_time() -> None:
    gate = Gate(transactional=True)
    partitions = [Partition(number) for number in range(6)]
    relay = await relay_of(gate)
    for partition in partitions:
        relay.stay(partition, 0)
        relay.push(partition, 1, outputs(f"{partition.number}a"))
    await until_async(lambda: gate.under_way == relay_module.AT_ONCE, "as many as allowed are under way")
    for partition in partitions:
        relay.push(partition, 2, outputs(f"{partition.number}b"))
    gate.open_gate.set()

    await until_async(lambda: all(partition.trimmed[-1:] == [2] for partition in partitions), "all have left")
    assert gate.most_under_way == relay_module.AT_ONCE
    assert all(len(portions) == 1 for portions in gate.rounds)
    assert sorted(gate.sent) == sorted(f"{number}{letter}" for number in range(6) for letter in "ab")
    await relay.close()


async def test_what_the_sink_has_already_is_not_sent_again() -> None:
    gate, partition = Gate(transactional=True), Partition()
    gate.has[3] = 2
    gate.open_gate.set()
    relay = await relay_of(gate)

    relay.stay(partition, 4)
    relay.push(partition, 1, outputs("a", "b", "c", "d"))

    await until_async(lambda: partition.trimmed == [4], "the outbox may forget all of them")
    assert gate.sent == ["c", "d"]
    assert relay.sent == 2
    await relay.close()


async def test_a_transactional_outlet_begins_again_after_a_failure_and_asks_who_owns_the_partition() -> None:
    gate, partition = Gate(transactional=True), Partition()
    gate.failures = [RuntimeError("fenced")]
    gate.open_gate.set()
    relay = await relay_of(gate)
    relay.stay(partition, 0)

    relay.push(partition, 1, outputs("a"))

    await until_async(lambda: partition.trimmed == [1], "it has left at the second try")
    assert gate.calls == ["begin 3", "send [3]", "begin 3", "send [3]"]
    assert partition.asked == 2
    await relay.close()


async def test_what_failed_is_tried_again_with_half_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TRANSACTION", 4)
    monkeypatch.setattr(relay_module, "_WAIT", 0.01)
    gate, partition = Gate(transactional=True), Partition()
    gate.failures = [RuntimeError("too slow"), RuntimeError("too slow")]
    gate.open_gate.set()
    relay = await relay_of(gate)
    relay.stay(partition, 0)
    for number in range(8):
        relay.push(partition, 1 + number, outputs(str(number)))

    await until_async(lambda: partition.trimmed and partition.trimmed[-1] == 8, "all have left")

    assert gate.rounds == [{3: 4}, {3: 2}, {3: 1}, {3: 5}, {3: 8}], "and whole again once it went well"
    await relay.close()


async def test_who_no_longer_owns_the_partition_begins_nothing() -> None:
    gate, partition = Gate(transactional=True), Partition()
    partition.is_ours = False
    gate.open_gate.set()
    relay = await relay_of(gate)
    relay.stay(partition, 0)
    relay.push(partition, 1, outputs("a"))

    await until_async(lambda: partition.asked, "the store was asked")
    relay.drop(partition)

    await until_async(lambda: gate.calls == ["drop 3"], "the outlet forgets the partition")
    assert gate.sent == []
    await relay.close()


@pytest.mark.parametrize("transactional", [False, True])
async def test_what_is_refused_is_buried_and_the_rest_leaves_once(transactional: bool) -> None:
    gate, partition = Gate(transactional=transactional), Partition()
    gate.refuses = {"b"}
    gate.open_gate.set()
    relay = await relay_of(gate)
    relay.stay(partition, 0)

    relay.push(partition, 7, outputs("a", "b", "c"))

    await until_async(lambda: partition.trimmed == [9], "all are done with")
    assert gate.sent == ["a", "c"]
    assert partition.buried == [(8, "b")]
    await relay.close()
