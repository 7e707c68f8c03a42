"""A unit runs one call node by node: all events through the first node, what goes on through the next, and so on.

A third faster than event by event (`runner`), as the loop over the events of one node asks nothing twice. What comes of
it is the same where no event waits for another one: no state is shared by nodes, no node ends a run, and no way leads
back to a node. Each node has the events in the order of the source, and what nodes made of one event depth first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from .calls import Path, Sent
from .context import Context, Effect
from .entries import Entry, EntryTable
from .events import Event
from .holding import NONE_MAY, come_in
from .outcome import BYTE, HopLimit, Item, Outcome, branches, emitted
from .plan import Plan
from .program import EXIT, INNER, MANY, NOTHING, Step, UnitProgram
from .progress import mark_of
from .settings import Settings
from .state_sizes import StateSizes
from .unfolding import unfold

_CHUNK: Final = 256
"""Events that go through all nodes before the next ones: they stay in the processor's cache meanwhile."""
_DROP = Step(NOTHING)
_Standing: TypeAlias = tuple[int, Entry, Event[Any], int, bytes | None]
"""An event before a node: index in the call, its run, the event, its data's type and bytes."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call under way."""

    out: Outcome
    entries: Sequence[Entry]
    events: Sequence[Event[Any] | None]
    effects: list[tuple[int, Path, list[Effect], Entry, str]]
    """What nodes asked for: the event's index and path, what, and by which node of which run."""


class Waves:
    """Runs the calls of a unit that goes in waves: see `goes_in_waves`.

    Args:
        plan: The workflow.
        program: The unit.
        entries: Its states by run.
        sizes: Watches over the states.
        settings: For the nodes.
    """

    def __init__(
        self, plan: Plan, program: UnitProgram, entries: EntryTable, sizes: StateSizes, settings: Settings
    ) -> None:
        ways = program.ways
        assert ways is not None
        self._plan = plan
        self._nodes = program.nodes
        self._order, self._depth = ways
        self._enter = {node.index: position for position, node in enumerate(program.nodes)}
        self._entries = entries
        self._sizes = sizes
        self._settings = settings
        self._messages = plan.message_encoders
        self._decoders: list[Callable[[bytes], Any]] = [row.codec.decode for row in plan.types]
        self._mutable = frozenset(number for number, row in enumerate(plan.types) if not row.immutable)
        """Numbers of the types of which each node gets a value of its own."""

    def run(
        self, out: Outcome, entries: Sequence[Entry], events: Sequence[Event[Any] | None], indexes: Sequence[int]
    ) -> None:
        """Take events of a call, consecutive ones, through the unit; what comes of it is in `out`."""
        out.by_waves = True
        call = _Call(out, entries, events, [])
        for first in range(0, len(indexes), _CHUNK):
            self._take(indexes[first : first + _CHUNK], call)
        call.effects.sort(key=_by_index_and_path)
        for index, _, collected, entry, node in call.effects:
            out.effects(index, collected, entry, node)

    def _take(self, part: Sequence[int], call: _Call) -> None:
        """Take a part of the events through all nodes."""
        waves = self._begin(part, call)
        fed = [bool(wave) for wave in waves]
        for position in self._order:
            wave = waves[position]
            if not wave:
                continue
            before = [len(other) for other in waves]
            self._through(position, wave, waves, call)
            for other, length in enumerate(before):
                if len(waves[other]) > length:
                    if fed[other]:  # by another node, too
                        waves[other].sort(key=_by_place)
                    fed[other] = True

    def _begin(self, part: Sequence[int], call: _Call) -> list[list[_Standing]]:
        """A part of the events before the nodes that they enter."""
        asked, entries, enter = call.out.call, call.entries, self._enter
        first, end = part[0], part[-1] + 1
        nodes, events = asked.nodes[first:end], call.events[first:end]
        rows = zip(
            part, [entries[run] for run in asked.runs[first:end]], events, asked.types[first:end],
            asked.blobs[first:end], strict=True,
        )  # fmt: skip
        waves: list[list[_Standing]] = [[] for _ in self._nodes]
        if nodes.count(nodes[0]) == len(nodes) and None not in events:  # nearly all
            waves[enter[nodes[0]]] = list(rows)  # type: ignore[arg-type]
            return waves
        for node, row in zip(nodes, rows, strict=True):
            if row[2] is not None:
                waves[enter[node]].append(row)  # type: ignore[arg-type]
        return waves

    def _through(  # noqa: PLR0912, PLR0915  in one piece: every event goes through it
        self, position: int, wave: Sequence[_Standing], waves: Sequence[list[_Standing]], call: _Call
    ) -> None:
        """Take a wave through one node. The loop that every event goes through: attributes in locals."""
        node, depth, out, events = self._nodes[position], self._depth[position], call.out, call.events
        base, paths, attempts, starts = out.call.hops, out.call.paths, out.call.attempts, out.call.nodes
        context: Context[Any, Any] = Context(self._plan.name, node.name, self._settings, self._messages)
        context._now_ms, context.state, context._hop = out.call.now, None, depth
        process, slot, singles, outputs = node.process, node.slot, node.singles, node.outputs
        number, blobs = node.index, out.call.blobs
        codes, written, mutable, large = out.codes, out.written, self._mutable, self._sizes.large
        put = [other.append for other in waves]
        encode_state, check = (node.quick.encode, node.quick.check) if node.quick else (msgspec.json.encode, None)
        state: Any = None
        saved = b""
        sent: Sent | None = None
        failed, retries = 0, node.plan.retry is not None
        lanes, mark = out.seat.lanes, mark_of(position)
        for row in wave:
            index, entry, event, type, blob = row
            lanes[0] = mark + index
            path: Path | None = None
            items: list[Item] | None = None
            try:
                if base:
                    self._count(context, depth + base[index])
                if depth > 1 and type in mutable:
                    event = replace(event, data=self._decoders[type](blob))  # type: ignore[arg-type]
                if entry.stopped:
                    if entry.stopped.get(number) == NONE_MAY and blob is blobs[index] and not (base or event.path):
                        out.behind(index, number, type, depth)  # in a storm it is as many as fail
                        failed += 1
                        continue
                    come_in(entry, number, out.call, index, first=number == starts[index], serial=False)
                context._event = event
                context._run = entry
                if attempts is not None:
                    context._attempt = max(0, attempts[index]) + 1 if number == starts[index] else 1
                if slot >= 0:
                    context.state = entry.states[slot]
                    result = process(event, context)
                    state = context.state
                    try:
                        saved = encode_state(state)
                    except Exception:  # noqa: BLE001  whatever it is: the codec says what
                        saved = node.encode(state)  # type: ignore[misc]
                    if check is not None and saved.find(b"null") >= 0:
                        check(state)
                    if len(saved) > large:
                        self._sizes.check(node.name, entry.key, len(saved))
                else:
                    result = process(event, context)
                step = singles.get(id(result))
                if step is None:
                    output = outputs.get(result.__class__)
                    if output is not None:
                        quick = output.quick
                        try:
                            made = quick.encode(result)
                        except Exception:  # noqa: BLE001  as above
                            made = output.encode(result)
                        if quick.check is not None and made.find(b"null") >= 0:
                            quick.check(result)
                        step, type, blob = output.step, output.type, made
                        if step.kind == EXIT:  # no node of this unit will see it
                            path = (*event.path, 0)
                        else:
                            event = emitted(event, result, 0)
                    else:
                        items = unfold(node, result, Item(_DROP, event, type, blob, context._hop))
            except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises ends as a dead letter
                context._effects = None
                failed += 1
                if slot >= 0:
                    self._entries.restore(node, entry)
                if retries and out.again(node, index, error, event, type, blob, context._hop, entry):
                    continue
                item = out.failed_at(node, index, error, Item(_DROP, event, type, blob, context._hop), entry, context)
                self._place(index, entry, [item], waves, call)
                continue
            if slot >= 0:
                entry.states[slot] = state
                entry.blobs[slot] = saved
            if context._effects:
                call.effects.append((index, event.path, context._effects, entry, node.name))
                context._effects = None
            if step is None:
                self._place(index, entry, items or [], waves, call)
            elif step.kind == INNER:
                put[step.node](row if event is row[2] else (index, entry, event, type, blob))
            elif step.kind == EXIT:
                if path is not None:
                    if step.sends:
                        if sent is None or paths or path != sent.path or step.code != sent.code:
                            sent = out.sending(index, step.code, path)
                        sent.indexes.append(index)
                        sent.blobs.append(blob)  # type: ignore[arg-type]  # just encoded
                    else:
                        out.exit(index, step.code, path, type, blob, context._hop)
                elif event is events[index] and step.code <= BYTE and not codes[index] and index not in written:
                    codes[index] = step.code  # it goes on as it came: nearly all do
                else:
                    out.exit(index, step.code, event.path, type, blob, context._hop)
            elif step.kind == MANY:
                self._place(index, entry, [Item(step, event, type, blob, context._hop)], waves, call)
        out.processed[position] += len(wave) - failed

    def _count(self, context: Context[Any, Any], hops: int) -> None:
        """This event has passed other units before."""
        context._hop = hops
        if hops > self._plan.hop_limit:
            raise HopLimit(self._plan.hop_limit)

    def _place(
        self, index: int, entry: Entry, items: list[Item], waves: Sequence[list[_Standing]], call: _Call
    ) -> None:
        """Where several parts of a result go, the last first."""
        while items:
            item = items.pop()
            step, event = item.step, item.event
            if step.kind == INNER:
                waves[step.node].append((index, entry, event, item.type, item.blob))
            elif step.kind == EXIT:
                call.out.exit(index, step.code, event.path, item.type, item.blob, item.hops)
            elif step.kind == MANY:
                items.extend(branches(step, item))


def goes_in_waves(plan: Plan, program: UnitProgram) -> bool:
    """Whether all that a call of this unit comes to is the same node by node as event by event."""
    if plan.serial or program.leaves or program.ways is None:
        return False
    if any(node.is_async or node.is_batch for node in program.nodes):
        return False
    depths = {node.index: depth for node, depth in zip(program.nodes, program.ways[1], strict=True)}
    from_outside = (target for source in plan.sources for target in source.targets)
    from_others = (
        target for node in plan.nodes if node.index not in depths for targets in node.routes for target in targets
    )
    entered = [depths[target] for target in chain(from_outside, from_others) if target in depths]
    return max(depths.values()) <= plan.hop_limit and all(depth == 1 for depth in entered)


def _by_place(row: _Standing) -> tuple[int, Path]:
    return row[0], row[2].path


def _by_index_and_path(row: tuple[int, Path, list[Effect], Entry, str]) -> tuple[int, Path]:
    return row[0], row[1]
