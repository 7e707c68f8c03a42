"""A core driven step by step on a real store, its nodes in this process: to stop an owner wherever a test wants it."""

from __future__ import annotations

import json
from typing import Any

from headrace.actors.store import Store
from headrace.workflows.commit import Answer
from headrace.workflows.instructions import Load
from headrace.workflows.partition import PartitionCore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from ledger import Ledger

NOW = 1_700_000_000_000


class Owner:
    """Owner of the only partition of a workflow with one source.

    Args:
        plan: The workflow, with all nodes inside the worker.
        store: The store.
        log: Values of the records, in order.
    """

    def __init__(self, plan: Plan, store: Store, log: list[bytes]) -> None:
        self._plan, self._store, self._log = plan, store, log
        self._pending: Save | None = None

    async def acquire(self, placement: int) -> Owner:
        """Become the owner, and begin where the store says."""
        head = await self._store.acquire(0, term=1, placement=placement, worker=f"worker/{placement}")
        self._placement = placement
        self._core = PartitionCore(self._plan, 0, 1, head)
        self._runners = {unit.index: UnitRunner(self._plan, unit.index) for unit in self._plan.units}
        self._read = int(head.positions.get("readings/0", "0"))
        self._pending = None
        return self

    async def take(self, count: int) -> None:
        """Process the next records, up to where they would be committed."""
        offsets = list(range(self._read, min(self._read + count, len(self._log))))
        self._read = offsets[-1] + 1
        records = Records(
            source=0, origin="readings/0", offsets=offsets, times=[NOW] * len(offsets), keys=[None] * len(offsets),
            values=[self._log[offset] for offset in offsets], after=str(self._read),
        )  # fmt: skip
        self._core.offer([records], NOW)
        while instructions := self._core.instructions():
            for instruction in instructions:
                if isinstance(instruction, Load):
                    self._core.loaded(instruction.keys, await self._store.load(0, instruction.keys), NOW)
                elif isinstance(instruction, Save):
                    self._pending = instruction
                else:
                    call = instruction.call
                    self._core.finished(self._runners[call.unit].run(call, instruction.data), NOW)

    async def save(self) -> Answer:
        """Commit what was taken, and do what a worker does about the answer."""
        assert self._pending is not None
        answer = await self._store.commit(0, self._core.owner, self._pending.commit)
        if answer is Answer.ROLLED_BACK:
            await self.acquire(self._placement)
        elif answer is not Answer.FENCED:
            assert self._core.committed(answer, NOW)
        return answer

    async def finish(self) -> None:
        """Take and save what is left."""
        while self._read < len(self._log):
            await self.take(20)
            await self.save()


async def is_as_offline(store: Store, log: list[bytes]) -> bool:
    """Are the states in the store those of one event after the other?"""
    expected = Ledger()
    for offset, value in enumerate(log):
        expected.feed(0, offset, value)
    found: dict[str, dict[str, Any]] = {}
    for key in await store.run_keys(0):
        fields = await store.run(0, key)
        nodes = [name for name in fields if name.startswith("node:")]
        found[key] = {name.removeprefix("node:"): json.loads(fields[name]) for name in nodes}
    return found == expected.states
