"""When sources are asked how far they go, and when what falls due may come."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from headrace.actors.bell import Bell
from headrace.actors.undertakings import Undertakings

NOW = 1_700_000_000_000


class Partition:
    """What a bell looks at of a core, and what it has asked it for."""

    wakes_at: int | None = None
    parking_full = False

    def __init__(self) -> None:
        self.timers_at: int | None = None
        self.timers_ahead: int | None = None
        self.rung: list[int] = []

    def ring(self, before: int) -> None:
        self.rung.append(before)
        self.timers_at = self.timers_ahead = None


class Sources:
    """They are asked how far they go; what they had then has been offered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.heard = asyncio.Event()
        self.offered = False

    async def horizon(self, partition: int) -> Any:
        self.asked += 1
        self.heard.set()
        return lambda: self.offered


async def test_sources_are_asked_for_the_next_timer_while_those_before_it_are_under_way() -> None:
    # given: a timer is due, and the epoch of those before it is not done
    sources, partition, clock = Sources(), Partition(), SimpleNamespace(now_ms=lambda: NOW)
    shared: Any = SimpleNamespace(clock=clock, feed=sources, on_problem=lambda *_: None)
    bell = Bell(0, shared, Undertakings(lambda error: None), wake=lambda: None)
    core: Any = partition
    partition.timers_ahead = NOW - 5
    bell.look(core, held=False)
    async with asyncio.timeout(5):
        await sources.heard.wait()
    await asyncio.sleep(0)  # what was asked for is taken
    sources.offered = True

    # when: it is looked at before and after that epoch is done
    bell.look(core, held=False)
    before = list(partition.rung)
    partition.timers_at, sources.offered = partition.timers_ahead, False
    bell.look(core, held=False)
    not_offered = list(partition.rung)
    sources.offered = True
    bell.look(core, held=False)

    # then: it comes at once, without another question, but only behind all that sources had
    assert (before, not_offered, partition.rung, sources.asked) == ([], [], [NOW], 1)
