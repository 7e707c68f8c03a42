"""What came of a call, collected while it runs: exits, failures, effects, ends."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

import msgspec

from .actions import Failure, Timer
from .calls import ENTER, PAUSED, SLOW, Call, CallResult, Effect, Ended, Exit, Failed, Path, Sent
from .codec import encode_json
from .context import Context, Replied, SentMessage
from .context import Effect as Asked
from .entries import Entry
from .error_words import describe, in_words, said_by
from .errors import HeadraceError
from .events import Event
from .holding import NONE_MAY, NodePaused, StandsBehind, stop
from .plan import FailurePlan, Plan
from .program import EXIT, INNER, MANY, NOTHING, NodeProgram, Step, UnitProgram
from .progress import Seat
from .slow import StillRuns
from .streaming import StreamOpened
from .values import ValueSet

END_COMPLETED = ENTER - 1
"""Exit code: the run is to end, completed, once what stands before it in the list has been done."""
END_TERMINATED = ENTER - 2
"""The same, terminated."""
BYTE = 255
"""Largest exit code that a call's plain codes can carry."""
_TOLD: Final = frozenset({StandsBehind, NodePaused, StillRuns})
"""What no node has raised: these events stand still for other reasons."""


class OutputError(HeadraceError):
    """A node returned something that has no way to go; the sentence says what and how to route it."""

    reason_code = "output"
    final = True

    @classmethod
    def unrouted(cls, node: NodeProgram, data: Any) -> OutputError:
        """For data of a class that the node's return annotation, or its routes, do not have."""
        name = type(data).__name__
        known = ", ".join(sorted(known.__name__ for known in node.outputs)) or "nothing"
        return cls(
            f"{node.name} returned {name}, but only {known} has a route from it."
            f" Return that, or annotate and route {name}."
        )


class HopLimit(HeadraceError):
    """An event went round the graph too often: a loop without a way out."""

    reason_code = "hops"
    final = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"passed {limit} nodes: does a loop of the graph lack a way out?")


class Item:
    """An event on its way through a unit: where it goes next, its data's type and bytes, and hops so far."""

    __slots__ = ("blob", "event", "hops", "step", "type")

    def __init__(self, step: Step, event: Event[Any], type: int, blob: bytes | None, hops: int) -> None:
        self.step = step
        self.event = event
        self.type = type
        self.blob = blob
        self.hops = hops


class Outcome:
    """Collects the result of one call."""

    def __init__(self, call: Call, plan: Plan, program: UnitProgram) -> None:
        self.call = call
        self.result = CallResult(
            partition=call.partition, unit=call.unit, replica=call.replica, number=call.number, owner=call.owner,
            exits=[], failed=[], effects=[], ended=[], skipped=[], hops=[], sent=[], left=[],
        )  # fmt: skip
        self.codes = bytearray(len(call.runs))
        """By event: exit code by which it goes on as it came; 0: it does not, or `exits` has it."""
        self.processed = [0] * len(program.nodes)
        """By node of the unit: events that it processed."""
        self.written: set[int] = set()
        """Events that `exits` has something of."""
        self.until = 0.0
        """When it is to end at the latest, by the loop's clock, where some node is `async`."""
        self.by_waves = False
        """Hops are counted from the unit's first node on, whatever node an event enters."""
        self.seat: Seat
        """Where the runner notes how far it is."""
        self.mask: Callable[[str], str] = str
        """Takes secrets out of what a node raised, which ends where many may read it."""
        self._plan = plan
        self._program = program
        self._sent: dict[tuple[int, Path], Sent] = {}

    def done(self) -> CallResult:
        """The result so far; its lists in the order of the call's events, whatever order runs went in."""
        result = self.result
        result.codes = bytes(self.codes)
        result.processed = self.processed
        for rows in (result.exits, result.failed, result.rerouted, result.effects):
            rows.sort(key=_by_index)
        for sent in result.sent:
            _in_order(sent)
        result.skipped.sort()
        return result

    def exit(self, index: int, code: int, path: Path, type: int, blob: bytes | None, hops: int) -> None:
        """An event leaves the unit: as a code if it goes on as it came, else written out."""
        call, codes, exits = self.call, self.codes, self.result.exits
        same = blob is call.blobs[index]
        base = call.paths[index] if call.paths else ()
        if same and path == base and code <= BYTE and not codes[index] and index not in self.written:
            codes[index] = code
            return
        self.written.add(index)
        if codes[index]:
            exits.append(Exit(index, (), codes[index], call.types[index], None, hops))
            codes[index] = 0
        exits.append(Exit(index, path[len(base) :] if base else path, code, type, None if same else blob, hops))

    def sending(self, index: int, code: int, path: Path) -> Sent:
        """Where data of the event `index` is written down that leaves by a code whose step `sends`."""
        base = self.call.paths[index] if self.call.paths else ()
        path = path[len(base) :] if base else path
        sent = self._sent.get((code, path))
        if sent is None:
            sent = self._sent[code, path] = Sent(code, path, [], [])
            self.result.sent.append(sent)
        return sent

    def hand_back(self, index: int, stack: list[Item]) -> None:
        """Give what is left of an event to the core: it goes on once what has left before it is done."""
        while stack:
            item = stack.pop()
            step = item.step
            if step.kind == MANY:
                stack.extend(branches(step, item))
            elif step.kind != NOTHING:
                self.exit(index, self._code(step), item.event.path, item.type, item.blob, item.hops)

    def _code(self, step: Step) -> int:
        if step.kind == INNER:
            return ENTER + self._program.nodes[step.node].index
        if step.kind == EXIT:
            return step.code
        return END_COMPLETED if step.outcome == "completed" else END_TERMINATED

    def end(self, index: int, entry: Entry, item: Item) -> None:
        """The run ends here; later events of the call find it so."""
        entry.ended = True
        base = self.call.paths[index] if self.call.paths else ()
        result = (item.blob or b"null").decode()
        self.result.ended.append(Ended(index, item.step.node, item.step.outcome, result, item.event.path[len(base) :]))

    def effects(self, index: int, collected: list[Asked], entry: Entry, node: str) -> None:
        """What a node asked for by its context while it processed the event."""
        for effect in collected:
            if isinstance(effect, Replied):
                self.result.effects.append(Effect(index, "reply", "", effect.body, path=effect.path))
            elif isinstance(effect, SentMessage):
                self.result.effects.append(Effect(index, "send", effect.name, effect.body, effect.to, effect.id))
            elif isinstance(effect, StreamOpened):
                self.result.effects.append(Effect(index, "stream", "", "", place=effect.place))
            elif isinstance(effect, ValueSet):
                self.result.effects.append(Effect(index, "value", effect.name, effect.body, path=effect.path))
                entry.values[effect.name] = len(effect.body.encode())
            elif effect.due is None:
                entry.timers.cancel(node, effect.name)
            else:
                entry.timers.set(node, effect.name, effect.due)

    def failed_at(
        self, node: NodeProgram, index: int, error: BaseException, item: Item, entry: Entry, context: Context[Any, Any]
    ) -> Item:
        """An event stops at a node.

        Args:
            node: The node.
            index: Which event of the call it came from.
            error: What was raised.
            item: The event as it came to the node.
            entry: Its run.
            context: The node's: has the event if the node had it.

        Returns:
            What goes on: a `Failure` by the node's route for it; else the item, which goes nowhere.
        """
        if self.again(node, index, error, item.event, item.type, item.blob, item.hops, entry):
            return item
        rows = self.result.failed
        self.failed(index, node.index, error, item, entry)
        step, plan, row, hops = node.failure, node.plan.failure, rows[-1], item.hops
        if step is None or plan is None or row.wait is not None:
            return item
        if plan.letter:
            hops = 0
        elif context._event is not item.event or isinstance(error, HopLimit):
            return item
        else:
            self.result.rerouted.append(rows.pop())
        came = item.blob
        if item.type == self._plan.firing_type and item.blob is not None:  # what the engine adds is nobody's
            came = encode_json(Timer(item.event.data.name, item.event.data.due))
        failure, blob = self._failure(node, plan, row, came)
        return Item(step, emitted(item.event, failure, 0), plan.type, blob, hops)

    def behind(self, index: int, node: int, type: int, hops: int, path: Path = (), blob: bytes | None = None) -> None:
        """An event stands behind one of its run that is to be tried again by the node; by default as it came."""
        self.result.failed.append(Failed(index, path, node, "behind", "", None, type, blob, hops, 0, 0))

    def unread(self, index: int, error: BaseException) -> None:
        """An event can't be had by the node that it was to enter: it is a dead letter, and joins are told."""
        call = self.call
        self.failed(index, call.nodes[index], error)
        node = next(row for row in self._program.nodes if row.index == call.nodes[index])
        plan = node.plan.failure
        if plan is not None and plan.letter:
            _, blob = self._failure(node, plan, self.result.failed[-1], call.blobs[index])
            base = call.paths[index] if call.paths else ()
            for branch, target in enumerate(node.plan.routes[plan.route]):
                self.exit(index, ENTER + target, (*base, 0, branch), plan.type, blob, 0)

    def _failure(self, node: NodeProgram, plan: FailurePlan, row: Failed, blob: bytes | None) -> tuple[Failure, bytes]:
        failure = Failure(row.error, row.reason, node.name, row.attempts, json_of(blob))
        return failure, self._plan.types[plan.type].codec.encode(failure)

    def failed(
        self, index: int, node: int, error: BaseException, item: Item | None = None, entry: Entry | None = None
    ) -> None:
        """One event stops at `node`, for good or for a time. Without an item, it is the event as it came."""
        call = self.call
        type = call.types[index]
        blob: bytes | None = None
        path: tuple[int, ...] = ()
        entered = (call.hops[index] if call.hops else 0) + 1
        hops = entered
        if item is not None:
            hops = item.hops
            path = item.event.path[len(call.paths[index]) if call.paths else 0 :]
            if item.blob is not call.blobs[index]:
                type, blob = item.type, item.blob
        if isinstance(error, StandsBehind):
            self.behind(index, node, type, hops, path, blob)
            return
        before = 0
        if call.attempts is not None and node == call.nodes[index] and (hops == entered or self.by_waves):
            before = max(0, call.attempts[index])
        if isinstance(error, NodePaused):
            self.result.failed.append(Failed(index, path, node, PAUSED, "", None, type, blob, hops, before, 0))
            return
        if isinstance(error, StillRuns):
            self.result.failed.append(Failed(index, path, node, SLOW, "", None, type, blob, hops, before, error.wait))
            if entry is not None:
                stop(entry, node)
            return
        reason, text, trace = describe(error)
        text, trace = self.told(text), trace and self.told(trace)
        self.result.failed.append(Failed(index, path, node, reason, text, trace, type, blob, hops, before + 1, None))

    def again(
        self, node: NodeProgram, index: int, error: BaseException, event: Event[Any], type: int, blob: bytes | None,
        hops: int, entry: Entry,
    ) -> bool:  # fmt: skip
        """The event is to be tried again by the node, if its policy says so. In a storm it is three of ten.

        Args:
            node: The node.
            index: Which event of the call it came from.
            error: What was raised.
            event: The event as it came to the node.
            type: Of its data.
            blob: Its data.
            hops: Nodes that it has been through, with this one.
            entry: Its run.

        Returns:
            Whether it is; if not, nothing has been noted.
        """
        retry, call, attempts = node.plan.retry, self.call, 1
        if retry is None or error.__class__ in _TOLD:
            return False
        number, came = node.index, call.attempts
        if (
            came is not None
            and number == call.nodes[index]
            and came[index] > 0
            and (self.by_waves or hops == (call.hops[index] if call.hops else 0) + 1)
        ):
            attempts += came[index]
        wait = retry.wait(error, attempts, event.id)
        if wait is None:
            return False
        entry.stopped = entry.stopped or {}
        entry.stopped[number] = NONE_MAY
        path = event.path
        if path and call.paths:
            path = path[len(call.paths[index]) :]
        if blob is call.blobs[index]:
            type, blob = call.types[index], None
        if error.__class__.__module__ == "builtins":
            reason, text = "error", f"{error.__class__.__name__}: {said_by(error)}"
        else:
            reason, text = in_words(error)
        self.result.failed.append(
            Failed(index, path, number, reason, self.told(text), None, type, blob, hops, attempts, wait)
        )
        return True

    def told(self, text: str) -> str:
        """What a node raised, as text that JSON can carry."""
        text = self.mask(text)
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def emitted(event: Event[Any], data: Any, branch: int) -> Event[Any]:
    """What a node made from `event`: its data, and its id by one more branch number."""
    return Event(data, event.key, event.origin, event.offset, (*event.path, branch), event.time_ms, event.raw_headers)


def branches(step: Step, item: Item) -> list[Item]:
    """One item for each target of a fan-out, the last first."""
    event = item.event
    items = [
        Item(branch, emitted(event, event.data, number), item.type, item.blob, item.hops)
        for number, branch in enumerate(step.branches, -1 if step.marks else 0)
    ]
    items.reverse()
    return items


def json_of(blob: bytes | None) -> Any:
    """What JSON has of an event's data; its text where it holds more than its type reads, and that can't be read."""
    if not blob:  # a tombstone
        return None
    try:
        return msgspec.json.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return blob.decode("utf-8", "replace")


def _in_order(sent: Sent) -> None:
    """Put it in the order of the call's events: runs of `async` nodes go side by side."""
    indexes = sorted(sent.indexes)
    if indexes != sent.indexes:
        rows = sorted(zip(sent.indexes, sent.blobs, strict=True), key=itemgetter(0))
        sent.indexes, sent.blobs = indexes, [blob for _, blob in rows]


def _by_index(row: Any) -> int:
    index: int = row.index
    return index
