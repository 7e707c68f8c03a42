"""Where events go after a call: to the next nodes, to sinks, nowhere, to the dead letters, to their run's end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING

from msgspec.structs import replace

from .calls import ENTER, CallResult, Ended, Exit, Failed, Path
from .codec import type_name
from .commit import DeadLetter
from .dispatch import Dispatch
from .emitting import Emitter
from .epoch import End, Epoch, Flow, Item
from .noting import note_effects
from .outcome import END_COMPLETED, END_TERMINATED
from .plan import COMPLETE, SINK, TERMINATE, TIMED_OUT, WAITS, Target
from .program import is_sink
from .records import Reentry
from .runs import RunRecord, latest
from .timers import TOTAL, as_taken
from .traced_epoch import note_hops, note_rerouted
from .waiting import NO_RUN

if TYPE_CHECKING:
    from .partition import PartitionCore

_OUTCOME = {COMPLETE: "completed", TERMINATE: "terminated", TIMED_OUT: "timed out"}


class Router:
    """Moves the events of one partition through its graph."""

    def __init__(self, core: PartitionCore) -> None:
        self._core = core
        self._plan = core.plan
        self.emitter = Emitter(core)
        self.now = 0
        """Milliseconds since 1970 UTC, when the core was last told."""
        self._serial = {region.index for region in core.plan.regions if region.by_core}

    def enter(self, epoch: Epoch) -> None:
        """All events of an epoch go to where their source's route leads."""
        plan = self._plan
        if epoch.standing:
            self._core.control.leave_out(epoch)
        if epoch.firings:
            self._core.time.admit(epoch, self.now)
        if plan.serial or epoch.late:
            self._core.late.look(epoch)
        if epoch.control:
            self._core.control.enter(epoch)
            return
        if epoch.finale is not None:
            run = self._core.runs.get("")
            assert run is not None
            self.end(epoch, run, End(*epoch.finale, -1, ()))
            return
        for first, end, _, targets in epoch.targets:
            slots: Sequence[int] = range(first, end)
            if None in epoch.runs:
                slots = [slot for slot in slots if epoch.runs[slot] is not None]
            if plan.serial and self._core.parking.count:
                slots = self._those_that_may_begin(epoch, slots, targets)
            self._all(epoch, slots, targets)

    def _those_that_may_begin(self, epoch: Epoch, slots: Sequence[int], targets: tuple[Target, ...]) -> list[int]:
        """Events of runs that stand still do so as well, but those that the runs stood still or wait for."""
        may: list[int] = []
        waiting, target = self._core.waiting, targets[0] if targets else 0
        messages = waiting.is_message(target)
        for slot in slots:
            run = epoch.runs[slot]
            if (
                slot in epoch.standing
                or (slot in epoch.firings and epoch.firings[slot][0].kind == TOTAL)
                or run is None
                or not self._core.parking.blocks(run.key)
                or messages
                or waiting.passes(run, target)
            ):
                may.append(slot)
            else:
                self._core.standing.behind(epoch, slot, None, self.now)
        return may

    def open(self, epoch: Epoch, region: int, items: list[Item]) -> Flow:
        """A serial region begins: the events before it, in order, behind each other by run."""
        flow = epoch.flows[region] = Flow()
        queues = flow.queues
        for item in items:
            run = epoch.runs[item[0]]
            assert run is not None
            queues.setdefault(run, deque()).append(item)
        for run in list(queues):
            self._next(epoch, flow, run)
        return flow

    def finished(self, dispatch: Dispatch, result: CallResult, now: int) -> None:
        """Take over what a call brought."""
        self._states(dispatch, result)
        result = self._core.soon.keep(dispatch, result, now)
        if result.hops:
            note_hops(dispatch, result, self._plan)
        no_events = {row.index for row in result.failed if row.wait is None and not self._failed(dispatch, row, now)}
        if no_events:  # there is nothing to tell joins of
            result = replace(result, exits=[row for row in result.exits if row.index not in no_events])
        if dispatch.epoch.traces and result.rerouted:
            note_rerouted(dispatch, result, self._plan)
        for left in result.left:
            self._core.standing.left(dispatch, left, now)
        if dispatch.tickets or any(row.wait is not None for row in result.failed):
            self._core.standing.after(dispatch, result, now)
        if result.effects or result.void:
            note_effects(dispatch, result)
        for sent in result.sent:
            self.emitter.many(dispatch, sent, self._core.programs[result.unit].codes[sent.code][0] - SINK)
        if self._plan.region_of[result.unit] in self._serial:
            self._serial_exits(dispatch, result)
        else:
            self._plain_exits(dispatch, result)

    def dead(self, epoch: Epoch, root: int, path: Path, letter: DeadLetter) -> None:
        """An event stops here."""
        self.emitter.letter(epoch, (root, path), letter)
        epoch.pending.dead.append((root, path, letter))
        self._core.dead_count += 1

    def _states(self, dispatch: Dispatch, result: CallResult) -> None:
        unit, number, epoch = result.unit, result.number, dispatch.epoch
        pending = epoch.pending
        if result.states and self._core.programs[unit].state_names:
            writes = pending.writes
            for run, blobs in zip(dispatch.runs, result.states, strict=True):
                run.versions[unit], run.sent[unit] = number, True
                if blobs != run.blobs[unit]:
                    run.blobs[unit] = blobs
                    writes.setdefault(run, {})[unit] = blobs
        if result.timers is not None:
            for run, blob in zip(dispatch.runs, result.timers, strict=True):
                if blob != run.timers:
                    self._core.waiting.timers_set(epoch, run, blob, self.now)
        if result.shared is not None:
            for run, blob in zip(dispatch.runs, result.shared, strict=True):
                if blob != run.shared:
                    run.shared = pending.shared[run] = blob

    def _failed(self, dispatch: Dispatch, row: Failed, now: int) -> bool:
        """A dead letter; False where it was never an event, as it can't be decoded."""
        epoch, slot, plan = dispatch.epoch, dispatch.slots[row.index], self._plan
        root, run = epoch.roots[slot], epoch.runs[slot]
        if root in epoch.traces:
            epoch.traces[root].failed(plan.nodes[row.node].name, epoch.path(slot) + row.path, row)
        source = epoch.source(root)
        name, type = plan.nodes[row.node].name, type_name(plan.types[row.type].type)
        changed = row.data is not None or epoch.blobs[slot] is not epoch.blobs[root]
        is_event = changed or row.reason != "decode"
        if not is_event:
            if root in epoch.pending.undecoded:
                return False
            epoch.pending.undecoded.add(root)
            self._core.waiting.come_back(epoch, root, now)
            slot = root
        data, headers, entry = epoch.came(root)
        if root in epoch.roots_of and entry is not None and not (entry.type or is_event):
            entry = None  # it stood still before anybody had looked at it
        if changed:
            data = epoch.blobs[slot] if row.data is None else row.data
        if epoch.types[slot] == plan.firing_type:
            data = as_taken(epoch.blobs[slot])
        if is_event:
            came_as = entry.type if entry else ""
            depth = len(epoch.path(slot)) + len(row.path)
            entry = Reentry(node=name, type=type if changed else came_as, visits=row.hops, depth=depth)
        letter = DeadLetter(
            id=epoch.event_id(slot, row.path), key=run.key if run else "", source=source, node=name if entry else None,
            reason=row.reason, error=row.error, traceback=row.traceback, attempts=row.attempts, time=now,
            event_time=epoch.times[root], type=type, data=data, headers=headers, reentry=entry,
        )  # fmt: skip
        self.dead(epoch, root, epoch.path(slot) + row.path, letter)
        return is_event

    def _plain_exits(self, dispatch: Dispatch, result: CallResult) -> None:
        epoch, slots, codes = dispatch.epoch, dispatch.slots, result.codes
        table = self._core.programs[result.unit].codes
        for code in set(codes):
            if code:
                whole = codes.count(code) == len(codes)
                chosen = slots if whole else [slot for slot, c in zip(slots, codes, strict=True) if c == code]
                self._all(epoch, chosen, table[code])
        for row in result.exits:
            targets = table[row.code] if row.code < ENTER else (row.code - ENTER,)
            if is_sink(targets):  # it leaves the graph: no slot for it
                self.emitter.one(epoch, slots[row.index], row.path, row.data, targets[0] - SINK)
                continue
            slot = epoch.derive(slots[row.index], row.path, row.type, row.data, 0)
            for item in self.resolve(epoch, slot, targets):
                self._to_node(epoch, item)
        for ended in result.ended:
            self._ended(dispatch, ended)
        if self._plan.keyed:
            for index in result.skipped:
                slot = slots[index]
                if index in dispatch.tickets and dispatch.tickets[index].node:
                    continue  # it stood still in the midst of the run that has ended
                if epoch.roots[slot] in epoch.firings:
                    continue  # what falls due does so with its run
                run = epoch.runs[slot]
                assert run is not None
                end = epoch.pending.ended.get(run)
                if end is not None and end.root == epoch.roots[slot]:
                    continue  # another target of the event that ended the run
                following = self._core.late.run_of(epoch, slot, run)
                if following is not None:
                    epoch.runs[slot] = following
                    self._to_node(epoch, (slot, dispatch.call.nodes[index]))
        epoch.load[self._plan.region_of[result.unit]] -= len(slots)

    def _serial_exits(self, dispatch: Dispatch, result: CallResult) -> None:
        epoch, codes, hops = dispatch.epoch, result.codes, dispatch.call.hops
        region = self._plan.region_of[result.unit]
        table = self._core.programs[result.unit].codes
        flow = epoch.flows[region]
        exits: dict[int, list[Exit]] = {}
        for row in result.exits:
            exits.setdefault(row.index, []).append(row)
        ends = {end.index: end for end in result.ended}
        for index, slot in enumerate(dispatch.slots):
            run = epoch.runs[slot]
            assert run is not None
            items: list[Item] = []
            if codes[index]:
                epoch.hops[slot] = (hops[index] if hops else 0) + 1
                items = self.resolve(epoch, slot, table[codes[index]])
            for row in exits.get(index, ()):
                items += self._serial_exit(epoch, slot, row, table)
            inner = [item for item in items if item[1] < 0 or self._region(item[1]) == region]
            flow.stacks.setdefault(run, []).extend(reversed(inner))
            epoch.load[region] += len(inner) - 1
            for item in items:
                if item[1] >= 0 and self._region(item[1]) != region:
                    self._to_node(epoch, item)
            if index in ends:
                self._ended(dispatch, ends[index])
            else:
                self._next(epoch, flow, run)

    def _serial_exit(self, epoch: Epoch, slot: int, row: Exit, table: list[tuple[Target, ...]]) -> list[Item]:
        new = epoch.derive(slot, row.path, row.type, row.data, row.hops)
        if row.code >= ENTER:
            return [(new, row.code - ENTER)]
        if row.code == END_COMPLETED:
            return [(new, COMPLETE)]
        if row.code == END_TERMINATED:
            return [(new, TERMINATE)]
        return self.resolve(epoch, new, table[row.code])

    def _next(self, epoch: Epoch, flow: Flow, run: RunRecord) -> None:
        """A run of a serial region has nothing in hand: its next event gets ready, if there is one."""
        while (item := self._following(epoch, flow, run)) is not None:
            slot, node = item
            if node >= 0:
                unit = self._plan.unit_of[node]
                replica = run.hash % self._plan.units[unit].replicas
                flow.ready.setdefault((unit, replica), []).append(item)
                return
            epoch.load[0] -= 1
            if node > WAITS:
                self._core.standing.gone_on(epoch, (slot,), self.now)
                self._end_by(epoch, slot, _OUTCOME[node])
                return
            items = self._core.waiting.step(epoch, slot, run, node, self.now)
            epoch.load[0] += len(items)
            flow.stacks.setdefault(run, []).extend(reversed(items))

    def _following(self, epoch: Epoch, flow: Flow, run: RunRecord) -> Item | None:
        """What is left of the run's event, else its next one; where it stands still, only what it waits for."""
        stack, queue = flow.stacks.get(run), flow.queues.get(run)
        if stack:
            return stack.pop()
        if not queue:
            return None
        item = queue[0]
        if self._plan.serial and run in epoch.stopped:
            found = next((row for row in queue if self._core.waiting.passes(run, row[1])), None)
            if found is None:
                epoch.load[0] -= len(queue)
                self._core.standing.queue(epoch, queue, flow.begun, self.now)
                queue.clear()
                return None
            item = found
        queue.remove(item)
        flow.begun.add(epoch.roots[item[0]])
        return item

    def _ended(self, dispatch: Dispatch, end: Ended) -> None:
        epoch, slot = dispatch.epoch, dispatch.slots[end.index]
        run = epoch.runs[slot]
        assert run is not None
        path, node = epoch.path(slot) + end.path, self._plan.nodes[end.node].name
        self.end(epoch, run, End(end.outcome, end.result, epoch.roots[slot], path, node))

    def _end_by(self, epoch: Epoch, slot: int, outcome: str) -> None:
        run = epoch.runs[slot]
        assert run is not None
        result = (epoch.blobs[slot] or b"null").decode()
        self.end(epoch, run, End(outcome, result, epoch.roots[slot], epoch.path(slot)))

    def end(self, epoch: Epoch, run: RunRecord, end: End) -> None:
        """The run ends. What it still had in hand is dropped; events behind it belong to the next run."""
        if run.ended:
            return
        run.ended = True
        epoch.pending.ended[run] = end
        stands = self._core.parking.count or self._core.parking.kept
        void = self._core.standing.ended(epoch, run, end, self.now) if stands else set()
        flow = epoch.flows.get(0) or Flow()
        stack, queue = flow.stacks.pop(run, []), flow.queues.pop(run, deque())
        epoch.load[0] -= len(stack) + len(queue)
        if not self._plan.keyed:
            self._core.ended = True
            epoch.cut = end.root
            return
        # another target of the same event's source: it belongs to the run that ended
        rest = deque(
            item
            for item in queue
            if epoch.roots[item[0]] not in {end.root, *epoch.firings} and epoch.standing.get(item[0]) not in void
        )
        following: RunRecord | None = None
        for slot, node in rest:
            if self._core.waiting.is_message(node) and latest(run).ended:
                self._core.waiting.refuse(epoch, slot, NO_RUN, "its run has ended")
                self._core.standing.gone_on(epoch, (slot,), self.now)
            elif (belongs := self._core.late.run_of(epoch, slot, run)) is not None:
                epoch.runs[slot] = following = belongs
                flow.queues.setdefault(belongs, deque()).append((slot, node))
                epoch.load[0] += 1
        if following is not None:
            self._next(epoch, flow, following)

    def _region(self, node: int) -> int:
        return self._plan.region_of[self._plan.unit_of[node]]

    def _all(self, epoch: Epoch, slots: Sequence[int], targets: tuple[Target, ...]) -> None:
        """Many events, one after the other, by one route."""
        if len(targets) == 1 and 0 <= targets[0] < SINK:
            node = targets[0]
            region = self._region(node)
            epoch.load[region] += len(slots)
            items = list(zip(slots, repeat(node)))
            if region in epoch.waiting:
                epoch.waiting[region] += items
                epoch.merged.add(region)
            else:
                epoch.waiting[region] = items
            return
        for slot in slots:
            for item in self.resolve(epoch, slot, targets):
                self._to_node(epoch, item)

    def _to_node(self, epoch: Epoch, item: Item) -> None:
        region = self._region(item[1]) if item[1] >= 0 else 0
        epoch.load[region] += 1
        epoch.waiting.setdefault(region, []).append(item)
        epoch.merged.add(region)

    def resolve(self, epoch: Epoch, slot: int, targets: tuple[Target, ...]) -> list[Item]:
        """The nodes (and ends) that an event goes to; for a sink its message is written down at once."""
        items: list[Item] = []
        many = len(targets) > 1
        ticket = epoch.standing.pop(slot, None) if many else None
        for branch, target in enumerate(targets):
            suffix = (branch,) if many else ()
            if target >= SINK:
                self.emitter.one(epoch, slot, suffix, None, target - SINK)
                continue
            own = slot
            if many:
                own = epoch.derive(slot, suffix, epoch.types[slot], None, epoch.hops.get(slot, 0))
                if ticket is not None:
                    epoch.standing[own] = ticket
            if target < 0 and not self._serial:
                self._end_by(epoch, own, _OUTCOME[target])
            else:
                items.append((own, target))
        return items
