"""A unit runs one call: events one after the other, depth first through its nodes, with a savepoint after each.

Used by the node actor, by the worker (for units inside it) and by the test kit. An event that fails
takes nothing with it: the state of its node goes back to the savepoint, what it did at nodes before
stays, and it stops there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from msgspec.structs import replace

from .awaiting import at_once, awaited
from .batching import BatchProcess, batches
from .call_events import events_of, readable
from .calls import Call, CallResult, Path
from .context import Context
from .entries import Entry, EntryTable
from .events import Event
from .holding import come_in, may_enter, stop_runs
from .inner_runs import InnerRuns, is_over
from .out_of_line import OutOfLine
from .outcome import BYTE, HopLimit, Item, Outcome, branches, emitted
from .plan import Plan
from .program import END, EXIT, INNER, LEAVE, MANY, NOTHING, NodeProgram, Output, Step, UnitProgram
from .progress import LANES, Progress, free_and_alone, guarding, mark_of
from .settings import NO_SETTINGS, Settings, give_settings
from .slow import SlowCalls
from .state_sizes import StateSizes
from .streaming import StreamSink, Writing
from .traced_run import Batch, Scope, TracedEvent, noting, parts
from .unfolding import unfold
from .waves import Waves, goes_in_waves

_DROP = Step(NOTHING)
_At: TypeAlias = tuple[
    NodeProgram, Context[Any, Any], Callable[[Event[Any], Context[Any, Any]], Any], int, dict[int, Step],
    dict[type, Output], int, int,
]  # fmt: skip
"""A node with its context, and those of its attributes that every event asks for."""


class UnitRunner:
    """Runs the calls of one replica of one unit; holds the states that it made, by run."""

    def __init__(
        self,
        plan: Plan,
        unit: int,
        *,
        held_runs: int = 200_000,
        sizes: StateSizes | None = None,
        settings: Settings = NO_SETTINGS,
        scope: Scope | None = None,
        progress: Progress | None = None,
        streams: StreamSink | None = None,
    ) -> None:
        self.plan = plan
        self._streams = streams
        self._writing: dict[int, Writing] = {}
        """By partition: what the events of the call at hand write into streams."""
        self.settings = settings
        self._messages = plan.message_encoders
        self._scope = scope
        self._serial = plan.serial and not plan.regions[plan.region_of[unit]].by_core
        """What begins behind something that stands still is seen here; else the core lets nothing begin."""
        self._progress = progress or Progress()
        self._noting: list[NodeProgram] = []
        """The nodes for traced events; made when there is the first one."""
        self.program = UnitProgram(plan, plan.units[unit])
        self.nodes: list[NodeProgram] = self.program.nodes
        self.is_async = any(node.is_async for node in self.nodes)
        self._slow = SlowCalls(plan.epoch_deadline, partial(self._progress.hold, unit))
        self.hasten = self._slow.hasten
        for node in self.nodes:
            if node.plan.timeout is not None and not node.is_async:
                node.process = self._progress.timed(node.process, node.plan.timeout, unit)
            if node.is_batch:
                node.process = BatchProcess(node, settings)
            elif node.is_async:
                node.process = self._slow.patient(node)
        self._entries = EntryTable(plan, self.program, held_runs)
        self._inner = InnerRuns(plan, self.program, self._entries, settings)
        self._sizes = sizes or StateSizes()
        self._out_of_line = OutOfLine(plan, unit, self._entries, self._sizes, settings, self._progress)
        self._decoders: list[Callable[[bytes], Any]] = [row.codec.decode for row in plan.types]
        self._immutable = [row.immutable for row in plan.types]
        self._retained: dict[int, CallResult] = {}
        self._waves: Waves | None = None
        if goes_in_waves(plan, self.program):
            self._waves = Waves(plan, self.program, self._entries, self._sizes, settings)

    async def open(self) -> None:
        """Open every node of the unit (user code: load a model, connect)."""
        for node in self.nodes:
            if node.instance is not None:
                give_settings(node.instance, self.settings)
                await awaited(node.instance.open())

    async def close(self) -> None:
        """Close the nodes, the last opened first."""
        self._slow.close()
        for node in reversed(self.nodes):
            if node.instance is not None:
                await awaited(node.instance.close())

    def run(self, call: Call, data: Sequence[Any] | None = None) -> CallResult:
        """Process a call of a unit whose nodes are all plain functions.

        Args:
            call: Events and states.
            data: The events' data where it is decoded already (a unit inside the worker), else None.
        """
        begun = self._begin(call)
        if isinstance(begun, CallResult):
            return begun
        out, entries = begun
        started = time.thread_time()
        events = self._events(out, entries, data)
        if call.executions is not None:
            at_once(self._out_of_line.run(out, entries, events, self._through, None))
        elif self._waves is None or out.seat.guarding:
            at_once(self._process_all(out, entries, events))
        else:
            for part, traced in parts(call, range(len(events)), out.result.hops, self._scope):
                if traced is None:
                    self._waves.run(out, entries, events, part)
                else:
                    at_once(self._process(out, entries, events, part, traced))
        return self._finish(out, entries, started)

    async def run_async(self, call: Call, data: Sequence[Any] | None = None) -> CallResult:
        """Process a call of a unit with `async` nodes: runs side by side, the events of a run one by one."""
        begun = self._begin(call)
        if isinstance(begun, CallResult):
            return begun
        out, entries = begun
        out.until = self._slow.begin(call.partition, call.owner, call.number)
        started = time.thread_time()
        events = self._events(out, entries, data)
        if call.executions is not None:
            await self._out_of_line.run(out, entries, events, self._through, self._writing.get(call.partition))
        elif len(entries) == 1 or isinstance(self.nodes[0].process, BatchProcess):
            await self._process_all(out, entries, events)
        else:
            free, alone = free_and_alone(call.runs, range(len(call.runs)), out.seat.suspects)
            by_run: list[list[int]] = [[] for _ in entries]
            for index in free:
                by_run[call.runs[index]].append(index)
            out.seat.guarding = False
            await asyncio.gather(*(self._through(out, entries, events, indexes) for indexes in by_run))
            out.seat.guarding = bool(alone)
            await self._through(out, entries, events, alone)
        return self._finish(out, entries, started)

    def _begin(self, call: Call) -> tuple[Outcome, list[Entry]] | CallResult:
        """The entries of a call's runs, or at once a result: a repeat's, or which states are missing."""
        kept = self._retained.get(call.partition)
        if kept is not None and kept.number == call.number and kept.owner == call.owner:
            return kept
        entries, need = self._entries.enter(call)
        out = Outcome(call, self.plan, self.program)
        if self.settings.hidden:
            out.mask = self.settings.mask
        if need:
            out.result.need = need
            return out.result
        stop_runs(call, entries)
        out.seat = self._progress.begin(call)
        if self.is_async and self._streams is not None:
            self._writing[call.partition] = Writing(call, self._streams)
        return out, entries

    def _finish(self, out: Outcome, entries: Sequence[Entry], started: float) -> CallResult:
        """States and time into the result, which is kept until the next call of its partition."""
        out.seat.end()
        result = out.done()
        if (writing := self._writing.pop(result.partition, None)) is not None:
            result.void = writing.void(result)
        self._entries.done(entries, result)
        self._inner.keep(entries)
        if self.program.state_names:
            result.states = [entry.blobs.copy() for entry in entries]
        if self.plan.run_state is not None:
            result.shared = [entry.shared for entry in entries]
        if out.call.timers is not None:
            result.timers = [entry.timers.field for entry in entries]
        result.seconds = time.thread_time() - started
        self._retained[result.partition] = result
        return result

    def _events(self, out: Outcome, entries: Sequence[Entry], data: Sequence[Any] | None) -> list[Event[Any] | None]:
        """The call's events; None where data or the run's state can't be read (noted as failed)."""
        events = events_of(out, self._decoders, data)
        return readable(out, entries, events) if self._entries.has_unread else events

    async def _process_all(self, out: Outcome, entries: Sequence[Entry], events: list[Event[Any] | None]) -> None:
        """All events of a call in order; those of a lone batch node in batches."""
        call, first = out.call, self.nodes[0]
        if not isinstance(first.process, BatchProcess) or len(self.nodes) > 1:
            await self._through(out, entries, events, range(len(call.runs)))
            return
        good = [index for index, event in enumerate(events) if event is not None]
        good, alone = free_and_alone(call.runs, good, out.seat.suspects)
        out.seat.guarding = False
        distinct = first.slot >= 0 or self.plan.run_state is not None or first.plan.may_end or bool(first.plan.retry)
        for indexes in batches(call, good, first.plan.batch_size, distinct=distinct):
            live = [index for index in indexes if self._goes_in(entries[call.runs[index]], first, call, index)]
            together = [event for index in live if (event := events[index]) is not None]
            runs = [entries[call.runs[index]] for index in live]
            began, started = time.time_ns(), time.perf_counter_ns()
            batch: Batch | None = None
            for lane, index in enumerate(live[:LANES]):
                out.seat.lanes[lane] = mark_of(0) + index
            tried = [max(0, call.attempts[index]) if call.attempts else 0 for index in live]
            if await first.process.prepare(together, runs, tried, self._entries, self.plan.name, call.now):
                batch = began, time.perf_counter_ns() - started
                out.seat.clear()
            else:
                out.seat.clear()
                for index, event in zip(live, together, strict=True):  # what it did to mutable data is undone
                    if not self._immutable[call.types[index]]:
                        events[index] = replace(event, data=self._decoders[call.types[index]](call.blobs[index]))  # type: ignore[arg-type]
            await self._through(out, entries, events, indexes, batch)
        out.seat.guarding = bool(alone)
        await self._through(out, entries, events, alone)

    def _goes_in(self, entry: Entry, node: NodeProgram, call: Call, index: int) -> bool:
        """Whether an event may be part of a batch."""
        if entry.stopped and not may_enter(entry, node.index, call, index, first=True, serial=self._serial):
            return False
        return not entry.ended

    async def _through(
        self, out: Outcome, entries: Sequence[Entry], events: Sequence[Event[Any] | None], indexes: Sequence[int],
        batch: Batch | None = None,
    ) -> None:  # fmt: skip
        """Take events through the unit; traced ones singly, by nodes that note it."""
        for part, traced in parts(out.call, indexes, out.result.hops, self._scope, batch):
            await self._process(out, entries, events, part, traced)

    async def _process(  # noqa: PLR0912, PLR0915  in one piece: every event goes through it
        self,
        out: Outcome,
        entries: Sequence[Entry],
        events: Sequence[Event[Any] | None],
        indexes: Iterable[int],
        traced: TracedEvent | None = None,
    ) -> None:
        """Take events through the unit, one after the other. Never waits where no node is `async`.

        The loop that every event of a fused graph goes through: kept in one piece, attributes in locals.
        """
        call, nodes, plan = out.call, self.nodes, self.plan
        immutable, hop_limit, large_state = self._immutable, plan.hop_limit, self._sizes.large
        if traced is not None:
            nodes = self._noting = self._noting or noting(self.nodes)
        if out.seat.guarding:
            nodes = guarding(nodes, out.seat)
        at = self._at(out, nodes, traced)
        enter = {node.index: position for position, node in enumerate(nodes)}
        runs, starts, types, blobs, hops_of = call.runs, call.nodes, call.types, call.blobs, call.hops
        attempts = call.attempts
        shared, waits = plan.run_state is not None or self._inner.share, self.is_async
        lanes, lane = out.seat.lanes, 0
        codes, written, processed = out.codes, out.written, out.processed
        stack: list[Item] = []
        state: Any = None
        saved = b""
        for index in indexes:
            event = original = events[index]
            if event is None:
                continue
            entry = entries[runs[index]]
            if entry.ended:
                out.result.skipped.append(index)
                continue
            if entry.left and is_over(entry, starts[index], attempts, index):
                continue
            position, type, blob = enter[starts[index]], types[index], blobs[index]
            hops = hops_of[index] if hops_of else 0
            entered = hops + 1
            if waits:  # runs go side by side
                lane = runs[index] % LANES
            first = True
            path: Path | None = None
            while True:
                node, context, process, slot, singles, outputs, mark, scope = at[position]
                home = entry if scope < 0 else entry.homes[scope]
                lanes[lane] = mark + index
                hops += 1
                try:
                    if hops > hop_limit:
                        raise HopLimit(hop_limit)
                    if not (first or immutable[type]):
                        event = replace(event, data=self._decoders[type](blob))  # type: ignore[arg-type]
                    first = False
                    if entry.stopped:
                        come_in(entry, node.index, call, index, first=hops == entered, serial=self._serial)
                    context._event, context._run, context._hop = event, home, hops
                    if attempts is not None:
                        context._attempt = max(0, attempts[index]) + 1 if hops == entered else 1
                    if slot >= 0:
                        context.state = entry.states[slot]
                    result = process(event, context)
                    if waits and node.is_async:
                        result = await result
                    if slot >= 0:
                        state = context.state
                        saved = node.encode(state)  # type: ignore[misc]
                        if len(saved) > large_state:
                            self._sizes.check(node.name, entry.key, len(saved))
                    common = home.encode(self._sizes) if shared else None
                    step = singles.get(id(result))
                    if step is None:
                        output = outputs.get(result.__class__)
                        if output is not None:
                            blob = output.encode(result)
                            if output.step.kind == EXIT:  # no node of this unit will see it
                                path = (*event.path, 0)
                            else:
                                event = emitted(event, result, 0)
                            step, type = output.step, output.type
                        else:
                            step = _DROP
                            stack.extend(unfold(node, result, Item(step, event, type, blob, hops)))
                except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises ends as a dead letter
                    context._effects = None
                    self._entries.restore(node, entry)
                    home.restore()
                    item = out.failed_at(node, index, error, Item(_DROP, event, type, blob, hops), entry, context)
                    if scope >= 0 and item.step is _DROP:
                        item = self._inner.failed(out, scope, item)
                    step, event, type, blob, hops = item.step, item.event, item.type, item.blob, item.hops
                else:
                    processed[position] += 1
                    if slot >= 0:
                        entry.states[slot] = state
                        entry.blobs[slot] = saved
                    if shared:
                        home.shared = common
                    if context._effects:
                        out.effects(index, context._effects, entry, node.name)
                        context._effects = None
                # Where it goes; then the next branch of what it came to, until one enters a node.
                while (kind := step.kind) != INNER:
                    if kind == EXIT:
                        code = step.code
                        if path is not None:
                            if step.sends:
                                sent = out.sending(index, code, path)
                                sent.indexes.append(index)
                                sent.blobs.append(blob)  # type: ignore[arg-type]  # just encoded
                            else:
                                out.exit(index, code, path, type, blob, hops)
                            path = None
                        elif event is original and code <= BYTE and not codes[index] and index not in written:
                            codes[index] = code  # it goes on as it came: nearly all do
                        else:
                            out.exit(index, code, event.path, type, blob, hops)
                        if step.leaves:
                            out.hand_back(index, stack)
                    elif kind == MANY:
                        stack.extend(branches(step, Item(step, event, type, blob, hops)))
                    elif kind == END:
                        out.end(index, entry, Item(step, event, type, blob, hops))
                        stack.clear()
                    elif kind == LEAVE:
                        stack += self._inner.leave(out, index, entry, stack, Item(step, event, type, blob, hops))
                    if not stack:
                        break
                    item = stack.pop()
                    step, event, type, blob, hops = item.step, item.event, item.type, item.blob, item.hops
                else:
                    position = step.node
                    continue
                break
            if waits:
                lanes[lane] = 0

    def _at(self, out: Outcome, nodes: Sequence[NodeProgram], traced: TracedEvent | None) -> list[_At]:
        """What is asked of each node for each event, with the one context that all events of a call share."""
        rows: list[_At] = []
        for position, node in enumerate(nodes):
            context: Context[Any, Any] = Context(self.plan.name, node.name, self.settings, self._messages)
            context._now_ms, context.state, context._traced = out.call.now, None, traced
            context._partition, context._until = out.call.partition, out.until
            context._sets_timers = node.plan.on_timer is not None
            context._writing = None if node.is_batch else self._writing.get(out.call.partition)
            rows.append(
                (node, context, node.process, node.slot, node.singles, node.outputs, mark_of(position), node.scope)
            )
        return rows
