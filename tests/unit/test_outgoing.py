"""The way out of a partition: what lies in its outbox bounds what it takes in, even if little waits in the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.actors import outbox_size
from headrace.actors.activity import Activity
from headrace.actors.outgoing import Outgoing
from headrace.actors.relay import Relay
from headrace.actors.undertakings import Undertakings
from headrace.sources.outlet import Portion, Refused
from headrace.workflows.commit import Answer, Commit, Head, Output
from headrace.workflows.saving import Save
from headrace.workflows.store import Chunk
from waiting import until_async

BUSY, BLOCKED = 0, 1


class Gate:
    """An outlet that lets everything through while it is open."""

    transactional = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.gate = asyncio.Event()

    async def open(self) -> None:
        pass

    async def begin(self, partition: int, last: int) -> int:
        return 0

    async def send(self, portions: Mapping[int, Portion]) -> Sequence[Refused]:
        await self.gate.wait()
        return []

    async def drop(self, partition: int) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class Outbox:
    """The part of a store that the way out uses."""

    chunks: list[Chunk] = field(default_factory=list)
    trimmed: int = 0
    most_read: int = 0

    async def outbox(self, partition: int, after: int, limit: int) -> list[Chunk]:
        found = [chunk for chunk in self.chunks if chunk[0] > after][:1]
        self.most_read = max(self.most_read, sum(len(outputs) for _, outputs in found))
        return found

    async def trim_outbox(self, partition: int, owner: str, through: int) -> Answer:
        self.trimmed = through
        return Answer.APPLIED


@dataclass
class Way:
    """One stay of a partition with two outlets."""

    outgoing: Outgoing
    relay: Relay
    outlets: list[Gate]
    outbox: Outbox
    next: int = 1

    def commit(self, *sinks: int) -> None:
        outputs = [Output(sink, f"{self.next}", "k", 0, b"1") for sink in sinks]
        save = SimpleNamespace(commit=Commit(sequence=1, outputs=outputs), first_output=self.next)
        self.next += len(outputs)
        self.outgoing.saved(cast(Save, save))


@pytest.fixture
async def way(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
    monkeypatch.setattr(outbox_size, "QUOTA", 10)
    outbox = Outbox()
    yield (way := await _way(outbox))
    await way.relay.close()


async def _way(outbox: Outbox) -> Way:
    outlets = [Gate("busy"), Gate("blocked")]
    relay = Relay(outlets, lambda output: output.sink, lambda *_: None, lambda: None)
    await relay.open()
    outlets[BUSY].gate.set()
    shared: Any = SimpleNamespace(relay=relay, store=outbox, on_problem=lambda *_: None, activity=Activity())
    core: Any = SimpleNamespace(partition=3, owner="owner", plan=None)
    head = Head(owner="owner", sequence=0, counters={}, outbox=0, positions={}, extra={})
    outgoing = Outgoing(
        core, head, shared=shared, under_way=Undertakings(lambda error: None), wake=lambda: None,
        on_refused=lambda answer: None,
    )  # fmt: skip
    return Way(outgoing, relay, outlets, outbox)


async def test_what_piles_up_behind_a_blocked_output_stops_the_partition(way: Way) -> None:
    """Mechanism: the quota of the outbox. In the worker a single output waits, which fills nothing."""
    await until_async(lambda: way.outgoing.takes_more, "it takes events")
    way.commit(BLOCKED)
    for _ in range(5):
        way.commit(BUSY, BUSY)

    await until_async(lambda: way.relay.waiting(3) == 1, "all but one have left")
    assert not way.outgoing.takes_more
    assert "11 outputs" in (way.outgoing.trouble or "")

    way.outlets[BLOCKED].gate.set()
    await until_async(lambda: way.outgoing.takes_more, "it takes events again")
    assert (way.outbox.trimmed, way.outgoing.trouble) == (11, None)


async def test_what_a_predecessor_left_counts_and_is_read_to_its_end_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mechanism: it ends when nothing is left, not when a piece is small: a store bounds pieces by bytes, too."""
    monkeypatch.setattr(outbox_size, "QUOTA", 10)
    left = [(1 + 4 * number, [Output(BLOCKED, f"{number}", "k", 0, b"1")] * 4) for number in range(5)]
    way = await _way(Outbox(left))

    await until_async(lambda: way.relay.waiting(3) == 20, "all of it is there")
    assert (way.outbox.most_read, way.outgoing.takes_more) == (4, False)

    way.outlets[BLOCKED].gate.set()
    await until_async(lambda: way.outgoing.takes_more, "it takes events")
    assert way.outbox.trimmed == 20
    await way.relay.close()
