"""Drives the core with a hostile world: calls lost and repeated, replicas killed, commits lost, owners crashed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any, TypeAlias

from headrace.workflows.calls import Call, CallResult
from headrace.workflows.commit import Answer
from headrace.workflows.dispatch import Dispatch
from headrace.workflows.envelope import decode
from headrace.workflows.instructions import Limits, Load, Recall, Tell
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from model import Expected, Graph

NOW = 1_700_000_000_000
Log: TypeAlias = list[tuple[int, bytes | None]]
"""What two sources have, in one order: (source, value)."""


class World:
    """One partition: a log, a store, runners, a core; `step` lets one random thing happen."""

    def __init__(self, graph: Graph, log: Log, draw: random.Random, *, faults: bool, **limits: int) -> None:
        self.graph = graph
        self.limits = limits
        self.log = log
        self.draw = draw
        self.faults = faults
        self.orderly = not (graph.plan.serial and graph.plan.keyed)
        """What stands still goes on when all records are done: else it is open which of a run's events is earlier."""
        self.store = MemoryStore(history=50)
        self.runners: dict[tuple[int, int], UnitRunner] = {}
        self.crashes = 0
        self.now = NOW
        self.since = 0
        """Sequence of the last commit before time went on: what was then is not lost any more."""
        self.acquire()

    def acquire(self) -> None:
        """A new owner: everything the old one held is gone."""
        head = self.store.acquire(0, term=1, placement=1, worker="w")
        limits = Limits(
            epochs_in_flight=self.draw.randint(1, 4), held_runs=self.draw.choice([2, 5, 1000]), **self.limits
        )
        self.core = PartitionCore(self.graph.plan, 0, 1, head, limits)
        # What is committed is always a beginning of the log, so two positions say how far it is read.
        self.positions = {source: int(head.positions.get(f"tokens{source}/0", "0")) for source in (0, 1)}
        self.read = sum(self.positions.values())
        self.todo: list[Any] = []

    def go_on(self, log: Log) -> None:
        """More records come; what was before them is not lost any more."""
        self.since = self.store.head(0).sequence
        self.log = [*self.log, *log]

    def tick(self) -> bool:
        """Let time go on until something that stands still is due; False if nothing does."""
        self.core.draining = False
        due = self.core.wakes_at
        if due is None:
            return False
        self.since = self.store.head(0).sequence
        self.now = max(self.now, due)
        self.core.advance(self.now)
        return True

    def run(self, steps: int = 100_000) -> None:
        """Until all of the log is committed and what is due has gone on, or the unkeyed run has ended."""
        for _ in range(steps):
            exhausted = self.read >= len(self.log) or self.core.ended
            self.core.draining = self.orderly and not (exhausted and self.core.idle)
            if (due := self.core.wakes_at) is not None and due <= self.now:
                self.core.advance(self.now)
            self.todo += self.core.instructions()
            exhausted = self.read >= len(self.log) or self.core.ended
            if self.core.soon.next_due is not None and (not self.todo or self.draw.random() < 0.05):
                due = self.core.wakes_at
                assert due is not None, "nobody wakes it"
                assert self.todo or due > self.now, "it was woken for something that it can't do"
                self.now = max(self.now, due)
                continue
            if not self.todo and exhausted and self.core.idle:
                if self.store.head(0).sequence == self.core.builder.sequence:
                    return
                self.acquire()  # the last commit was lost, and no other one shows it: an owner looks now and then
                continue
            self.step(exhausted)
        raise AssertionError("stands still")

    def step(self, exhausted: bool) -> None:
        """One random thing."""
        if self.faults and self.crashes < 3 and self.draw.random() < 0.01:
            self.crashes += 1
            back = self.draw.randint(0, 2)
            if back and self.store.head(0).sequence - self.since >= back:
                self.store.roll_back(0, back)
            self.acquire()
            return
        if self.faults and self.crashes < 6 and self.draw.random() < 0.005:
            self.crashes += 1
            if self.draw.random() < 0.5 and self.store.head(0).sequence > self.since:
                self.store.roll_back(0, 1)  # the store loses its tail while the owner lives
            else:
                self.store.acquire(0, term=1, placement=1, worker="another")
        if not exhausted and self.core.wants_records and (not self.todo or self.draw.random() < 0.5):
            self.offer()
        elif self.todo:
            self.do(self.todo.pop(self.draw.randrange(len(self.todo))))

    def offer(self) -> None:
        """The next records, however many."""
        most = self.draw.choice([1, 1, 2, 5, 20, 60])
        batches: list[Records] = []
        while most and self.read < len(self.log) and len(batches) < 2:
            source = self.log[self.read][0]
            if batches and batches[0].source == source:
                break
            values: list[bytes | None] = []
            while len(values) < most and self.read < len(self.log) and self.log[self.read][0] == source:
                values.append(self.log[self.read][1])
                self.read += 1
            first = self.positions[source]
            self.positions[source] = after = first + len(values)
            most -= len(values)
            batches.append(
                Records(
                    source=source,
                    origin=f"tokens{source}/0",
                    offsets=list(range(first, after)),
                    times=[NOW] * len(values),
                    keys=[None] * len(values),
                    values=values,
                    after=str(after),
                    requests=[(f"tokens{source}/0/{offset}", "caller") for offset in range(first, after)],
                )
            )
        self.core.offer(batches, self.now)

    def do(self, instruction: Any) -> None:
        """What the core asked for, or a fault in place of it."""
        if isinstance(instruction, Load):
            self.core.loaded(instruction.keys, self.store.load(0, instruction.keys), self.now)
        elif isinstance(instruction, Recall):
            blobs = self.store.parked(0, [ticket.field for ticket in instruction.tickets])
            if self.core.control.misses(instruction.tickets, blobs):
                assert self.crashes
                self.acquire()
            else:
                self.core.recalled(instruction.tickets, blobs, self.now)
        elif isinstance(instruction, Save):
            answer = self.store.commit(0, self.core.owner, instruction.commit)
            if self.faults and self.draw.random() < 0.1:
                self.todo.append(instruction)  # the answer was lost: ask again
                return
            if not self.core.committed(answer, self.now):
                assert answer in (Answer.FENCED, Answer.ROLLED_BACK)
                self.acquire()
        elif not isinstance(instruction, Tell):  # no call of this world is amid its work when something happens
            self.call(instruction)

    def call(self, dispatch: Dispatch) -> None:
        """A call: done, or lost before or after it was done."""
        call = dispatch.call
        place = (call.unit, call.replica)
        roll = self.draw.random() if self.faults else 1.0
        if roll < 0.03:
            self.runners.pop(place, None)  # killed: what it held is gone
        if roll < 0.06:
            self.core.lost(*place)
            return
        runner = self.runners.get(place)
        if runner is None:
            held = self.draw.choice([1, 3, 100])
            runner = self.runners[place] = UnitRunner(self.graph.plan, call.unit, held_runs=held)
        result = run_call(runner, call, dispatch.data)
        if roll < 0.10:
            self.core.lost(*place)  # done, but the result went astray: the repeat gets the same one
            return
        self.core.finished(result, self.now)
        if roll < 0.13:
            self.core.finished(result, self.now)  # the same result twice


def run_call(runner: UnitRunner, call: Call, data: Any) -> CallResult:
    """Sync or async, as the unit is."""
    if runner.is_async:
        return asyncio.run(runner.run_async(call, data))
    return runner.run(call, data)


def outcome(world: World) -> Expected:
    """What is in the store, in the form of the naive interpreter's result."""
    found = Expected()
    head = world.store.head(0)
    found.processed.update({origin: int(position) for origin, position in head.positions.items()})
    for key in world.store.run_keys(0):
        fields = world.store.run(0, key)
        found.status[key] = (fields["status"].decode(), fields.get("result", b"").decode())
        for name, blob in fields.items():
            if name == "state" or name.startswith(("node:", "value:")):
                found.states[key, name] = blob
    for output in world.store.outputs(0):
        found.outputs[output.key, output.sink].append((output.id, output.data))
    for letter in world.store.dead_letters(0):
        found.dead[letter.key].append((letter.id, letter.node, letter.reason))
    found.answers = answers_in(world.store, 0)
    return found


def answers_in(store: MemoryStore, partition: int) -> dict[str, tuple[Any, ...]]:
    """How requests have been answered, in the form of the naive interpreter's result."""
    answers = {request: decode(body.encode()) for request, body in store._of(partition).replies.items()}
    return {
        request: (answer.kind, answer.data, answer.outcome, answer.node, answer.reason)
        for request, answer in answers.items()
    }


def same(found: Expected, expected: Expected) -> list[str]:
    """Differences, as sentences; none: equal. Dead letters of a key are compared as a set."""
    wrong: list[str] = []
    if found.processed != expected.processed:
        wrong.append(f"processed {found.processed}, expected {expected.processed}")
    if found.states != expected.states:
        wrong.append(f"states {found.states} expected {expected.states}")
    if found.status != expected.status:
        wrong.append(f"status {found.status} expected {expected.status}")
    if dict(found.outputs) != dict(expected.outputs):
        wrong.append(f"outputs {dict(found.outputs)} expected {dict(expected.outputs)}")
    if found.answers != expected.answers:
        both = found.answers.keys() | expected.answers.keys()
        pairs = [(name, found.answers.get(name), expected.answers.get(name)) for name in sorted(both)]
        wrong.append(f"answers (found, expected) {[row for row in pairs if row[1] != row[2]]}")
    for side in (found, expected):
        side.dead = defaultdict(list, {key: sorted(rows, key=str) for key, rows in side.dead.items() if rows})
    if dict(found.dead) != dict(expected.dead):
        wrong.append(f"dead {dict(found.dead)} expected {dict(expected.dead)}")
    return wrong
