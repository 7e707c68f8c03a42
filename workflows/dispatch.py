"""Which events may enter which unit now, and the calls that take them there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from operator import sub
from typing import Any, TypeAlias

from .calls import Blobs, Call
from .epoch import Epoch, Flow, Item, Place
from .executing import executions_of
from .holding import IS_PAUSED, NONE_MAY
from .parking import Parking, Ticket
from .plan import Plan, Region
from .program import UnitProgram
from .runs import RunRecord, RunTable
from .soon import Soon
from .traced_epoch import traced_of
from .values import sizes_of

OpenFlow: TypeAlias = Callable[[Epoch, int, list[Item]], Flow]
"""Begins a serial region of an epoch with the events before it, in order."""


@dataclass(slots=True)
class Dispatch:
    """Instruction: make this call. Its result comes back by `PartitionCore.finished`."""

    call: Call
    data: Sequence[Any] | None
    """Decoded data of the events, for a unit inside the worker; None: the unit decodes."""
    epoch: Epoch
    slots: list[int]
    runs: list[RunRecord]
    attempts: int = 1
    tickets: dict[int, Ticket] = field(default_factory=dict)
    """Events that stood still before the node that they enter, by index."""
    again: list[RunRecord] = field(default_factory=list)
    """Runs of its first events, as many as waited in memory; see `soon`."""
    sent: int = 1
    """How often it went to a replica, because one was lost with it."""
    given_up: bool = False
    """Nobody waits for its result any more: its events stand still."""


class Dispatcher:
    """Starts calls for one partition: one at a time for each replica of a unit, epochs in order.

    Epoch n+1 enters a region when nothing of epoch n is there, or where it could still get there from.
    """

    def __init__(
        self,
        plan: Plan,
        programs: Sequence[UnitProgram],
        partition: int,
        owner: str,
        open_flow: OpenFlow,
        parking: Parking,
        soon: Soon,
        table: RunTable,
    ) -> None:
        self._plan = plan
        self._table = table
        self._parking = parking
        self._soon = soon
        self._open = open_flow
        self._partition = partition
        self._owner = owner
        self._stateless = [not program.state_names for program in programs]
        self._mutable = frozenset(number for number, row in enumerate(plan.types) if not row.immutable)
        """Numbers of types: what a failed attempt did to such data is not for the next one to see."""
        self.calls = 0
        """Number of the last call (or loaded version) of this owner."""
        self.busy: dict[Place, Dispatch] = {}
        self.paused: frozenset[int] = frozenset()
        """Nodes that no event enters for now."""

    def start(self, epochs: Iterable[Epoch], now: int) -> list[Dispatch]:
        """All calls that may go out now."""
        started: list[Dispatch] = []
        self._soon.release(now)
        occupied = [False] * max(1, len(self._plan.regions))
        for epoch in epochs:
            if not epoch.entered:
                break
            moving = _moving(epoch)
            if epoch.waiting or epoch.ready or epoch.flows:  # else none of it can start: all wait, or are under way
                for region in self._plan.regions:
                    index = region.index
                    before = any(occupied[r] or moving[r] for r in region.before)
                    if epoch.load[index] and not (occupied[index] or before):
                        self._start_region(epoch, region, now, started)
                        moving = _moving(epoch)
            occupied = [was or bool(count) for was, count in zip(occupied, moving, strict=True)]
        return started

    def _start_region(self, epoch: Epoch, region: Region, now: int, started: list[Dispatch]) -> None:
        waiting = epoch.waiting.pop(region.index, None)
        if waiting and region.index in epoch.merged:
            epoch.merged.discard(region.index)
            waiting.sort(key=epoch.order)
        if waiting:
            waiting = self._soon.defer(epoch, region.index, waiting)
        if region.by_core:
            flow = self._open(epoch, region.index, waiting) if waiting else epoch.flows[region.index]
            ready = flow.ready
        else:
            ready = epoch.ready
            if waiting:
                self._split(epoch, region.units[0], waiting)
        for place in [place for place in ready if place[0] in region.units and place not in self.busy]:
            started.append(self._dispatch(epoch, place, ready.pop(place), now))

    def _split(self, epoch: Epoch, unit: int, items: list[Item]) -> None:
        """Share a wave out among the replicas, by run."""
        replicas = self._plan.units[unit].replicas
        if replicas == 1:
            epoch.ready.setdefault((unit, 0), []).extend(items)
            return
        for item in items:
            run = epoch.runs[item[0]]
            assert run is not None
            epoch.ready.setdefault((unit, run.hash % replicas), []).append(item)

    def _dispatch(self, epoch: Epoch, place: Place, items: list[Item], now: int) -> Dispatch:
        unit = place[0]
        slots = [slot for slot, _ in items]
        here = epoch.soon
        again = here.again.pop(place, []) if here is not None else []
        self.calls += 1
        number = self.calls
        whole = (
            len(slots) == epoch.count == len(epoch.runs)
            and slots[-1] == epoch.count - 1
            and not (epoch.hops or epoch.paths or here)
        )
        of_runs: list[RunRecord] = epoch.runs if whole else [epoch.runs[slot] for slot in slots]  # type: ignore[assignment,misc]
        places = dict(zip(dict.fromkeys(of_runs), count()))
        runs = list(places)
        call = Call(
            partition=self._partition, unit=unit, replica=place[1], number=number, owner=self._owner, now=now,
            keys=[run.key for run in runs], numbers=[run.number for run in runs],
            bases=[0] * len(runs) if self._stateless[unit] else [run.versions[unit] for run in runs],
            states=self._states(unit, runs),
            shared=[run.shared for run in runs] if self._plan.run_state is not None else None,
            timers=[run.timers for run in runs] if self._plan.firing_type >= 0 else None,
            runs=list(map(places.__getitem__, of_runs)), nodes=[node for _, node in items], origins=epoch.origins,
            **(_whole(epoch) if whole else _part(epoch, slots)),
        )  # fmt: skip
        if epoch.traces:
            call.traced = traced_of(epoch, slots)
        if self._table.have_values and any(run.values for run in runs):
            call.values = sizes_of(runs)
        if epoch.executions:
            call.executions = executions_of(epoch, slots)
        tickets: dict[int, Ticket] = {}
        if epoch.standing:
            tickets = {index: epoch.standing.pop(slot) for index, slot in enumerate(slots) if slot in epoch.standing}
            if tickets:
                call.attempts = [-1] * len(slots)
                for index, ticket in tickets.items():
                    call.attempts[index] = epoch.tickets[ticket].attempts if ticket.node else 0
                call.falls = max(epoch.tickets[ticket].falls for ticket in tickets.values())
        if again and here is not None:
            call.attempts = list(map(here.tried.pop, items[: len(again)], repeat(-1)))
            call.attempts += [-1] * (len(items) - len(again))
        if self._parking.count or epoch.stopped or here is not None or self.paused:
            call.blocked = self._blocked(epoch, unit, runs) or None
        data: Sequence[Any] | None = None
        touched = bool(again) and not self._mutable.isdisjoint(call.types)
        if epoch.data is not None and self._plan.units[unit].in_worker and not touched:
            if whole:
                data = epoch.data
            elif len(epoch.runs) == epoch.count or max(slots) < epoch.count:
                data = list(map(epoch.data.__getitem__, slots))
        dispatch = self.busy[place] = Dispatch(call, data, epoch, slots, runs, tickets=tickets, again=again)
        return dispatch

    def _blocked(self, epoch: Epoch, unit: int, runs: Sequence[RunRecord]) -> list[tuple[int, int, int]]:
        """Nodes of the unit before which events of these runs stand still; see `Call.blocked`."""
        plan, parking, found = self._plan, self._parking, list[tuple[int, int, int]]()
        inside = plan.units[unit].nodes
        queues = epoch.soon.queues if epoch.soon is not None else {}
        if len(queues) > len(runs) * len(inside):  # few runs go in while many wait: in a storm
            found = [
                (index, node, NONE_MAY) for node in inside for index, run in enumerate(runs) if (node, run) in queues
            ]
        elif queues:
            places = dict(zip(runs, count()))
            found = [(places[run], node, NONE_MAY) for node, run in queues if run in places and node in inside]
        paused = [(index, node, IS_PAUSED) for node in self.paused.intersection(inside) for index in range(len(runs))]
        if not (parking.count or epoch.stopped):
            return found + paused
        nodes = {plan.nodes[node].name: node for node in inside}
        stopped_of, stand = epoch.stopped, parking.nodes
        for index, run in [row for row in enumerate(runs) if row[1] in stopped_of or row[1].key in stand]:
            stopped = stopped_of.get(run, ())
            found += [(index, node, NONE_MAY) for node in stopped if node in plan.units[unit].nodes]
            if not plan.serial:  # else nothing but what stands there enters at all
                found += [
                    (index, nodes[name], parking.blocks(run.key, name))
                    for name in stand.get(run.key, ())
                    if name in nodes and nodes[name] not in stopped
                ]
        return found + paused

    def _states(self, unit: int, runs: Sequence[RunRecord]) -> list[Blobs | None]:
        if self._stateless[unit]:
            return [None] * len(runs)
        return [None if run.sent[unit] else run.blobs[unit] for run in runs]

    def again(self, dispatch: Dispatch, need: Sequence[int]) -> Dispatch:
        """The same call once more, with the states of the runs `need` (indexes)."""
        unit = dispatch.call.unit
        for index in need:
            dispatch.call.states[index] = dispatch.runs[index].blobs[unit]
        dispatch.attempts += 1
        return dispatch


def _moving(epoch: Epoch) -> list[int]:
    """By region: how many of its events are there and do not wait for a time."""
    return epoch.load if epoch.soon is None else list(map(sub, epoch.load, epoch.soon.load))


def _whole(epoch: Epoch) -> dict[str, Any]:
    # Types and blobs are copied: slots may be added to the epoch before the call is sent again.
    return {
        "types": epoch.types.copy(), "blobs": epoch.blobs.copy(), "origin_of": epoch.origin_of,
        "offsets": epoch.offsets, "times": epoch.times, "headers": epoch.headers,
    }  # fmt: skip


def _part(epoch: Epoch, slots: Sequence[int]) -> dict[str, Any]:
    roots = slots if len(epoch.runs) == epoch.count else list(map(epoch.roots.__getitem__, slots))
    paths, hops, headers = epoch.paths, epoch.hops, epoch.headers
    return {
        "types": list(map(epoch.types.__getitem__, slots)),
        "blobs": list(map(epoch.blobs.__getitem__, slots)),
        "origin_of": list(map(epoch.origin_of.__getitem__, roots)) if len(epoch.origins) > 1 else [0] * len(slots),
        "offsets": list(map(epoch.offsets.__getitem__, roots)),
        "times": list(map(epoch.times.__getitem__, roots)),
        "headers": [headers[root] for root in roots] if headers else None,
        "paths": [paths.get(slot, ()) for slot in slots] if paths else None,
        "hops": [hops.get(slot, 0) for slot in slots] if hops else None,
    }
