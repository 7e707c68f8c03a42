"""What a `Map` over a workflow is when it runs: a run of that workflow for each item, within the call of its node.

Such a run begins and ends with its item, and has nothing that is kept: `validate_mapped` sees to it that nothing in the
workflow would wait for long, or leave by itself. What is tried again waits here, while other items go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

import msgspec

from headrace.workflows.actions import Failure
from headrace.workflows.calls import Call, CallResult, Hasten, Path
from headrace.workflows.context import Context, Replied, SentMessage
from headrace.workflows.errors import HeadraceError
from headrace.workflows.events import Event
from headrace.workflows.mapping import Mapped
from headrace.workflows.nodes import Node
from headrace.workflows.outcome import json_of
from headrace.workflows.plan import BETWEEN, Plan
from headrace.workflows.runner import UnitRunner
from headrace.workflows.values import ValueSet

UNENDED: Final = "unended"
"""Reason of the failure of an item whose run has come to no end."""


class MappedRuns(Node[Any, None, Mapped[Any, Any]]):
    """The node of a `Map` over a workflow.

    Args:
        plan: The mapped workflow's, all in one unit.
        workflow: Name of the workflow that the node is in.
        node: Name of the node.
        items: What of the data the items are; None: all of it.
        concurrency: Items at a time, of one event.
    """

    def __init__(
        self, plan: Plan, workflow: str, node: str, items: Callable[[Any], Sequence[Any]] | None, concurrency: int
    ) -> None:
        nodes = tuple(replace(row, name=node + BETWEEN + row.name) for row in plan.nodes)
        self._plan = replace(plan, name=workflow, nodes=nodes)
        self._items = items
        self._concurrency = concurrency
        self._numbers = count(1)
        self._runner: UnitRunner | None = None

    async def open(self) -> None:
        """Open the nodes of the workflow."""
        self._runner = UnitRunner(self._plan, 0, held_runs=1, settings=self.settings)
        await self._runner.open()

    async def close(self) -> None:
        """Close them."""
        if self._runner is not None:
            await self._runner.close()

    async def process(self, event: Event[Any], ctx: Context[None, Any]) -> Mapped[Any, Any]:
        """The outcomes of the runs of all items of an event."""
        items = list(event.data if self._items is None else self._items(event.data))
        results: list[Any] = [None] * len(items)
        failures: dict[int, Failure] = {}
        effects: dict[int, list[Any]] = {}
        todo = iter(range(len(items)))

        async def lane() -> None:
            for index in todo:
                found, effects[index] = await self._run(event, ctx, index, items[index])
                if isinstance(found, Failure):
                    failures[index] = found
                else:
                    results[index] = found.value

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(items))):
                group.create_task(lane())
        for index in sorted(effects):
            for effect in effects[index]:
                ctx._ask(effect)
        return Mapped(event.data, results, dict(sorted(failures.items())))

    async def _run(
        self, event: Event[Any], ctx: Context[None, Any], index: int, item: Any
    ) -> tuple[_Result | Failure, list[Any]]:
        """The run of one item: its outcome, and what its nodes asked for, if it did not fail."""
        targets, kind = self._plan.sources[0].targets, self._plan.types[self._plan.sources[0].type]
        ways = [(branch,) if len(targets) > 1 else () for branch in range(len(targets))]
        try:
            blob = kind.codec.encode(item)
        except (HeadraceError, msgspec.MsgspecError, ValueError, TypeError) as error:
            return Failure(f"{type(error).__name__}: {error}"), []
        call = self._call(event, ctx, [(*event.path, index, *way) for way in ways], blob)
        runner = self._runner
        assert runner is not None
        try:
            result = await _called(runner, call, [item] * len(targets) if kind.immutable else None)
            effects = list(_effects(result))
            while not result.ended and result.failed and all(row.wait is not None for row in result.failed):
                await asyncio.sleep(max(row.wait or 0 for row in result.failed) / 1000)
                call = self._again(call, result)
                result = await _called(runner, call, None)
                effects += _effects(result)
        except asyncio.CancelledError:
            runner.hasten(Hasten(partition=call.partition, owner=call.owner, void=((event.key, call.numbers[0]),)))
            raise
        found = self._outcome(result, blob)
        return found, [] if isinstance(found, Failure) else effects

    def _again(self, call: Call, result: CallResult) -> Call:
        """What stands still of a run goes on, from where it stopped and with the states that there were then."""
        rows, paths = result.failed, call.paths or []
        return msgspec.structs.replace(
            call, number=next(self._numbers), bases=[call.number], states=result.states or [None],
            shared=result.shared, runs=[0] * len(rows), nodes=[row.node for row in rows],
            types=[row.type for row in rows], origin_of=[0] * len(rows),
            blobs=[call.blobs[row.index] if row.data is None else row.data for row in rows],
            offsets=[call.offsets[row.index] for row in rows], times=[call.times[row.index] for row in rows],
            paths=[(*paths[row.index], *row.path) for row in rows], hops=[row.hops - 1 for row in rows],
            headers=call.headers and [call.headers[row.index] for row in rows],
            attempts=[row.attempts for row in rows],
        )  # fmt: skip

    def _call(self, event: Event[Any], ctx: Context[None, Any], paths: list[Path], blob: bytes) -> Call:
        """One run with one event, which enters one node after the other."""
        plan, number = self._plan, next(self._numbers)
        nodes = list(plan.sources[0].targets)
        times = len(nodes)
        return Call(
            partition=0, unit=0, replica=0, number=number, owner="", now=ctx._now_ms, keys=[event.key],
            numbers=[number], bases=[0], states=[None], shared=None if plan.run_state is None else [None],
            runs=[0] * times, nodes=nodes, types=[plan.sources[0].type] * times, blobs=[blob] * times,
            origins=[event.origin], origin_of=[0] * times, offsets=[event.offset] * times,
            times=[event.time_ms] * times, paths=paths, headers=[event.raw_headers] * times,
        )  # fmt: skip

    def _outcome(self, result: CallResult, blob: bytes) -> _Result | Failure:
        """What came of a run: what failed in it for good comes first."""
        row = next((row for row in result.failed if row.wait is None), None)
        if row is not None:
            data = json_of(blob if row.data is None else row.data)
            return Failure(row.error, row.reason, self._plan.nodes[row.node].name, row.attempts, data)
        if not result.ended:
            return Failure("its run has come to no end", UNENDED)
        end = result.ended[0]
        value = msgspec.json.decode(end.result)
        if end.outcome != "completed":
            return Failure(value if isinstance(value, str) else end.result)
        return _Result(value)


class _Result(msgspec.Struct, frozen=True):
    """Of a run that has completed."""

    value: Any


async def _called(runner: UnitRunner, call: Call, data: list[Any] | None) -> CallResult:
    return await runner.run_async(call, data) if runner.is_async else runner.run(call, data)


def _effects(result: CallResult) -> Iterator[Replied | SentMessage | ValueSet]:
    for effect in result.effects:
        if effect.kind == "reply":
            yield Replied(effect.body)
        elif effect.kind == "value":
            yield ValueSet(effect.name, effect.body, effect.path)
        else:
            yield SentMessage(effect.id, effect.name, effect.to, effect.body)
