"""Traces in an epoch: where they begin, what nodes did is noted, and where they are handed on. See `tracing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .calls import CallResult
from .epoch import Epoch
from .intake import Taken
from .plan import Plan
from .tracing import Tracer

if TYPE_CHECKING:
    from .dispatch import Dispatch


def begin_traces(tracer: Tracer, epoch: Epoch, taken: Taken, source: str) -> None:
    """Begin the traces of a batch's events; one that is sent on is traced where it is processed."""
    records = taken.records
    found = tracer.begin(records, source)
    if not found:
        return
    away = {row.index for row in epoch.pending.misplaced if row.records is records}
    bad = {index: (reason, error) for index, reason, error in taken.bad}
    first = len(epoch.runs) - len(records)
    for index, trace in found.items():
        if index not in away:
            trace.key, trace.error = taken.keys[index] or "", bad.get(index)
            epoch.traces[first + index] = trace
    epoch.headers = epoch.headers or [()] * len(epoch.runs)


def traced_of(epoch: Epoch, slots: Sequence[int]) -> list[tuple[int, bytes]] | None:
    """Of the events of a call, those that are traced: see `Call.traced`."""
    traces, roots = epoch.traces, epoch.roots
    return [
        (index, traces[root].context) for index, slot in enumerate(slots) if (root := roots[slot]) in traces
    ] or None


def note_hops(dispatch: Dispatch, result: CallResult, plan: Plan) -> None:
    """Nodes have had traced events."""
    epoch, unit = dispatch.epoch, plan.units[result.unit]
    process = "worker" if unit.in_worker else f"{unit.name(plan)}/{result.replica}"
    for row in result.hops:
        slot = dispatch.slots[row.index]
        epoch.traces[epoch.roots[slot]].hop(
            row, plan.nodes[row.node].name, epoch.path(slot) + row.path,
            event=epoch.event_id(slot, row.path), attempt=dispatch.sent, process=process,
        )  # fmt: skip


def note_rerouted(dispatch: Dispatch, result: CallResult, plan: Plan) -> None:
    """Nodes have failed at traced events, which go on as a `Failure`."""
    epoch = dispatch.epoch
    for row in result.rerouted:
        slot = dispatch.slots[row.index]
        trace = epoch.traces.get(epoch.roots[slot])
        if trace is not None:
            trace.rerouted(plan.nodes[row.node].name, epoch.path(slot) + row.path, row)


def end_traces(tracer: Tracer, epoch: Epoch) -> None:
    """What was noted of an epoch's traced events counts: it is committed."""
    assert epoch.save is not None
    rows = [trace for root, trace in epoch.traces.items() if epoch.cut is None or root <= epoch.cut]
    some_dropped = epoch.cut is not None or bool(epoch.pending.ended)
    tracer.end(rows, {output.id for output in epoch.save.commit.outputs} if some_dropped else None)
