"""A unit has one of its nodes have an event out of line: nothing goes on from there. See `executing`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

from .batching import BatchProcess
from .calls import Executed, Hop
from .codec import type_name
from .context import Context, Replied
from .deadline import within
from .entries import Entry, EntryTable
from .error_words import describe
from .events import Event
from .executing import WORDS
from .late import LATE
from .outcome import Item, Outcome
from .plan import Plan
from .program import ACTION_KIND, COMPLETE_KIND, LIST_KIND, NONE_KIND, NOTHING, NodeProgram, Step, UnitProgram
from .progress import Progress, guarding, mark_of
from .settings import Settings
from .state_sizes import StateSizes
from .streaming import StreamPlace, Writing
from .unfolding import unfold

Through = Callable[..., Awaitable[None]]
"""Takes events through the unit: `UnitRunner`'s."""
_STAYS = Step(NOTHING)


class Returned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node made of the data that it was given out of line: the body of the answer."""

    node: str
    returned: Literal["nothing", "data", "action", "complete", "terminate", "list"]
    action: str = ""
    """Name of the member."""
    type: str = ""
    """Of the data: name of the class."""
    data: Any = msgspec.UNSET
    """What it returned; with `complete` and `terminate` the result or reason; of a list, its parts."""
    reply: Any = msgspec.UNSET
    """What it has replied first, if it has."""
    committed: bool = False
    """States and effects are kept."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a list that a node returned."""

    returned: str
    action: str = ""
    type: str = ""
    data: Any = msgspec.UNSET


class OutOfLine:
    """Executes nodes of one unit out of line.

    Args:
        plan: The workflow.
        unit: Index of the unit.
        table: Its runs.
        sizes: Looks at states that grow large.
        settings: Of the workflow.
        progress: Where the unit notes how far it is.
    """

    def __init__(
        self, plan: Plan, unit: int, table: EntryTable, sizes: StateSizes, settings: Settings, progress: Progress
    ) -> None:
        self._plan = plan
        self._unit = unit
        self._table = table
        self._sizes = sizes
        self._settings = settings
        self._progress = progress
        self._nodes: dict[int, tuple[int, NodeProgram]] = {}
        """Position and program by index; made when the first one is asked for."""

    async def run(
        self, out: Outcome, entries: Sequence[Entry], events: list[Event[Any] | None], through: Through,
        writing: Writing | None,
    ) -> None:  # fmt: skip
        """Take all events of a call through the unit in their order, those out of line among them.

        Never waits where no node is `async`.

        Args:
            out: Gets what comes of it.
            entries: The call's runs.
            events: Its events; None where one can't be read.
            through: What takes those through the unit that are in line.
            writing: Where streams go; None: nowhere.
        """
        call, result = out.call, out.result
        executions = dict(call.executions or ())
        unread = {row.index: row for row in result.failed if row.index in executions}
        result.failed[:] = [row for row in result.failed if row.index not in executions]
        result.exits[:] = [row for row in result.exits if row.index not in executions]
        first = 0
        for index, commits in executions.items():
            await through(out, entries, events, range(first, index))
            first, event, entry = index + 1, events[index], entries[call.runs[index]]
            if entry.ended:
                row = Executed(index, reason=LATE, error=WORDS[LATE])
            elif event is None:
                row = Executed(index, reason=unread[index].reason, error=unread[index].error)
            else:
                began, started = time.time_ns(), time.perf_counter_ns()
                row = await self._execute(out, index, entry, event, writing if commits else _nowhere(out, writing))
                if any(index == each for each, _ in call.traced or ()):
                    took = time.perf_counter_ns() - started
                    result.hops.append(Hop(index, (), call.nodes[index], 1, began, took, row.reason))
            result.executed.append(row)
        await through(out, entries, events, range(first, len(call.runs)))

    async def _execute(
        self, out: Outcome, index: int, entry: Entry, event: Event[Any], writing: Writing | None
    ) -> Executed:
        call = out.call
        commits = dict(call.executions or ())[index]
        position, node = self._program(call.nodes[index])
        if out.seat.guarding:
            (node,) = guarding([node], out.seat)
        context: Context[Any, Any] = Context(self._plan.name, node.name, self._settings, self._plan.message_encoders)
        context._event, context._run, context._hop, context._now_ms = event, entry, 1, call.now
        context._partition, context._sets_timers = call.partition, node.plan.on_timer is not None
        context._writing = None if node.is_batch else writing
        context.state = entry.states[node.slot] if node.slot >= 0 else None
        lanes = out.seat.lanes
        lanes[0] = mark_of(position) + index
        try:
            value = node.process(event, context)
            if node.is_async:
                value = await value
            saved = node.encode(context.state) if node.encode is not None else b""
            if len(saved) > self._sizes.large:
                self._sizes.check(node.name, entry.key, len(saved))
            shared = entry.encode(self._sizes)
            effects = context._effects or []
            replies = [row for row in effects if isinstance(row, Replied)]
            body = _body(node, value, call.types[index], call.blobs[index], event, replies, commits=commits)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises is the answer
            self._restore(node, entry)
            reason, text, _ = describe(error)
            return Executed(index, reason=reason, error=out.told(text))
        finally:
            lanes[0] = 0
        if not commits:
            self._restore(node, entry)
            return Executed(index, body)
        if node.slot >= 0:
            entry.states[node.slot], entry.blobs[node.slot] = context.state, saved
        entry.shared = shared if entry.codec is not None else entry.shared
        out.effects(index, [row for row in effects if not isinstance(row, Replied)], entry, node.name)
        return Executed(index, body)

    def _restore(self, node: NodeProgram, entry: Entry) -> None:
        """Nothing of what the node did to states is left."""
        self._table.restore(node, entry)
        entry.restore()

    def _program(self, index: int) -> tuple[int, NodeProgram]:
        """A node as it is executed: none that takes long goes on behind its event, as nobody would ask for it."""
        if not self._nodes:
            limit = timedelta(seconds=self._plan.epoch_deadline)
            for position, node in enumerate(UnitProgram(self._plan, self._plan.units[self._unit]).nodes):
                if node.plan.timeout is not None and not node.is_async:
                    node.process = self._progress.timed(node.process, node.plan.timeout, self._unit)
                if node.is_batch:
                    node.process = BatchProcess(node, self._settings)
                if node.is_async:
                    node.process = within(node.process, limit, "epoch_deadline")
                self._nodes[node.index] = position, node
        return self._nodes[index]


class _Nowhere:
    """Takes what nodes write, and forgets it."""

    async def append(
        self, partition: int, owner: str, place: StreamPlace, token: str, number: int, value: bytes
    ) -> None:
        """See `StreamSink.append`."""


def _nowhere(out: Outcome, writing: Writing | None) -> Writing | None:
    return None if writing is None else Writing(out.call, _Nowhere())


def _body(
    node: NodeProgram, value: Any, type: int, blob: bytes | None, event: Event[Any], replies: list[Replied], *,
    commits: bool,
) -> str:  # fmt: skip
    """What the caller is told.

    Raises:
        OutputError, CodecError, Reject: As in line: it returned something that has no way to go.
    """
    unfold(node, value, Item(_STAYS, event, type, blob, 1))
    if node.kind_of(value.__class__) == LIST_KIND:
        part = Part(returned="list", data=[_part(node, each) for each in value if each is not None])
    else:
        part = _part(node, value)
    returned = Returned(
        node=node.name, returned=part.returned, action=part.action, type=part.type, data=part.data,  # type: ignore[arg-type]
        reply=msgspec.Raw(replies[0].body.encode()) if replies else msgspec.UNSET, committed=commits,
    )  # fmt: skip
    return msgspec.json.encode(returned).decode()


def _part(node: NodeProgram, value: Any) -> Part:
    kind = node.kind_of(value.__class__)
    if kind == NONE_KIND:
        return Part(returned="nothing")
    if kind == ACTION_KIND:
        return Part(returned="action", action=value.name)
    if kind in node.ends:
        result = value.result if kind == COMPLETE_KIND else value.reason
        name = "complete" if kind == COMPLETE_KIND else "terminate"
        return Part(returned=name, data=msgspec.Raw(msgspec.json.encode(result)))
    output = node.output_of(value.__class__)
    assert output is not None, "`unfold` refuses the rest"
    return Part(returned="data", type=type_name(value.__class__), data=msgspec.Raw(output.encode(value)))
