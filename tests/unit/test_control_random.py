"""Runs that end from outside at any moment of a hostile world: each event counts in one run, once, in order."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from driving import NOW, World
from headrace import Complete, Context, Event, KafkaSink, KafkaSource, Node, Retry, Timer, Workflow
from headrace.workflows.control import ControlEvent, as_records, encode
from headrace.workflows.instructions import Recall, Ring
from headrace.workflows.keyspace import CONTROL
from headrace.workflows.late import LatePolicy
from headrace.workflows.plan import Plan
from headrace.workflows.retry import Linear

KEYS = ("ada", "bob", "cyd")
RANG = -1
FOR_EVER = 1 << 40


class Token(msgspec.Struct, frozen=True):
    key: str
    number: int
    flaky: bool


class Counted(msgspec.Struct, frozen=True):
    number: int
    count: int
    run: int


def number_of(ctx: Context[Any]) -> int:
    """Of the run."""
    number: int = ctx.run.number  # type: ignore[attr-defined]
    return number


class Count(Node[Token, int, Counted]):
    """Counts the events of a run; some fail at first, and stand still."""

    def process(self, event: Event[Token], ctx: Context[int]) -> Counted:
        if event.data.flaky and ctx.attempt < 3:
            raise OSError
        ctx.state += 1
        return Counted(event.data.number, ctx.state, number_of(ctx))


class Timed(Count):
    """The same, and sets a timer with each event."""

    def process(self, event: Event[Token], ctx: Context[int]) -> Counted:
        counted = super().process(event, ctx)
        ctx.set_timer(str(event.data.number % 3), after=timedelta(seconds=3))
        return counted

    def on_timer(self, timer: Timer, ctx: Context[int]) -> Counted:
        del timer
        return Counted(RANG, ctx.state, number_of(ctx))


class Ending(Node[Counted, int, Counted | Complete]):
    """Ends a run now and then, from inside."""

    def process(self, event: Event[Counted], ctx: Context[int]) -> Counted | Complete:
        ctx.state += 1
        return Complete() if event.data.number % 11 == 10 else event.data


class Passing(Node[Counted, int, Counted]):
    """Ends none."""

    def process(self, event: Event[Counted], ctx: Context[int]) -> Counted:
        ctx.state += 1
        return event.data


def plan_of(*, ends: bool, flaky: bool, late: LatePolicy, fuse: bool, keyed: bool = True, timed: bool = False) -> Plan:
    workflow = Workflow("tokens", keyed=keyed)
    key = "key" if keyed else None
    tokens = workflow.source(KafkaSource("tokens0", Token, key=key), late=late)
    workflow.source(KafkaSource("tokens1", Token, key=key), late=late).to(None)
    sink = workflow.sink(KafkaSink("counts", Counted))
    retry = Retry(5, on=(OSError,), backoff=Linear(timedelta(seconds=1))) if flaky else None
    count = workflow.node(Timed() if timed else Count(), name="count", retry=retry)
    after = workflow.node(Ending() if ends else Passing(), name="after")
    tokens.to(count)
    count.to(after)
    after.to(sink)
    return workflow.compile(fuse="all" if fuse else None)


class EndingWorld(World):
    """A world in which somebody ends runs, or has keys forgotten."""

    asked = 0
    most = 6
    kinds: Any = ("terminate", "terminate", "delete")
    ended: frozenset[str] = frozenset()
    """Keys of which somebody has ended runs."""
    keys: tuple[str, ...] = KEYS
    control_read = "0-0"
    life = 1

    def acquire(self) -> None:
        super().acquire()
        self.life = self.store.life
        self.control_read = self.store.head(0).positions.get(CONTROL, "0-0")

    def step(self, exhausted: bool) -> None:
        if self.asked < self.most and self.draw.random() < 0.05:
            self.asked += 1
            key, kind = self.draw.choice(self.keys), self.draw.choice(self.kinds)
            self.ended |= {key}
            number = int(self.store.run(0, key).get("number", b"0")) if self.draw.random() < 0.5 else 0
            self.store.append(0, CONTROL, encode(ControlEvent(kind, key, number if kind == "terminate" else 0)))
            self.since = self.store.head(0).sequence  # what was asked is not lost any more
        if self.draw.random() < 0.02:
            self.pass_time(self.now + 1000)
        elif not self.offer_control():
            super().step(exhausted)

    def pass_time(self, now: int) -> None:
        """What was before is not lost any more; timers ring."""
        self.since = self.store.head(0).sequence
        self.now = now
        if (due := self.core.timers_at) is not None and due <= now:
            self.core.ring(now)

    def do(self, instruction: Any) -> None:
        if isinstance(instruction, Ring):
            self.core.rang(*self.store.timers(0, instruction.before, instruction.limit), self.now)
        elif isinstance(instruction, Recall) and self.store.life != self.life:
            self.acquire()  # what was to be fetched may be lost: an owner that finds it so begins anew
        else:
            super().do(instruction)

    def ring(self) -> bool:
        """Let time go on until a timer is due; False if none is."""
        due = self.core.timers_at
        if due is not None:
            self.pass_time(max(self.now, due))
        return due is not None

    def offer_control(self) -> bool:
        """What was asked and is not read yet."""
        entries = self.store.stream(0, CONTROL, self.control_read)
        if not (entries and self.core.control.wanted):
            return False
        self.control_read = entries[-1].id
        self.core.control.offer([as_records([(entry.id, entry.data) for entry in entries])], self.now)
        return True

    def finish(self) -> None:
        """Until nothing is left to do, now or later."""
        self.run()
        while self.offer_control() or self.tick() or self.ring():
            self.run()


@pytest.mark.parametrize("seed", range(600))
def test_each_event_counts_once_in_one_run_whoever_ends_it(seed: int) -> None:
    draw = random.Random(seed)
    ends, flaky, fuse = draw.random() < 0.5, draw.random() < 0.5, draw.random() < 0.4
    late: LatePolicy = draw.choice(["new-run", "new-run", "dead-letter"])
    timed = draw.random() < 0.4
    plan = plan_of(ends=ends, flaky=flaky, late=late, fuse=fuse, timed=timed)
    count = 60
    tokens = [Token(draw.choice(KEYS), number, flaky and draw.random() < 0.1) for number in range(count)]
    log: Any = [(0, msgspec.json.encode(token)) for token in tokens]
    patience = draw.choice([FOR_EVER, 1_000])
    world = EndingWorld(SimpleNamespace(plan=plan), log, draw, faults=draw.random() < 0.7, patience=patience)  # type: ignore[arg-type]
    if draw.random() < 0.3:
        world.kinds = ("delete",)

    world.finish()

    assert world.store.stream(0, CONTROL) == []
    assert world.store.parked_fields(0) == {}
    letters = [msgspec.json.decode(row.data or b"", type=Token).number for row in world.store.dead_letters(0)]
    assert {row.reason for row in world.store.dead_letters(0)} <= {"late"}
    left: dict[str, list[Counted]] = defaultdict(list)
    for output in world.store.outputs(0):
        left[output.key].append(msgspec.json.decode(output.data or b"", type=Counted))
    for rows in left.values():
        order = [row.run for row in rows]
        assert order == sorted(order)  # nothing of a run that has ended comes after the next one has begun
    assert world.store.timers(0, 1 << 60, 1000) == ([], None)
    left = defaultdict(list, {key: [row for row in rows if row.number != RANG] for key, rows in left.items()})
    numbers = [row.number for rows in left.values() for row in rows]
    assert len(set(numbers)) == len(numbers)
    assert not set(numbers) & set(letters)
    assert len(set(letters)) == len(letters)
    for key, rows in left.items():
        if not flaky:
            assert rows == sorted(rows, key=lambda row: row.number), key
        runs = sum(
            1 for before, row in zip([None, *rows], rows, strict=False) if before is None or row.count <= before.count
        )
        assert runs <= 1 + world.asked + sum(1 for token in tokens if token.key == key and token.number % 11 == 10)
    if world.kinds == ("delete",) and not ends:
        assert letters == []  # nothing is late for what is forgotten
    if not (flaky or ends):
        gone = set(range(count)).difference(numbers, letters)
        assert not gone if patience == FOR_EVER else {tokens[number].key for number in gone} <= world.ended
    for key in world.store.run_keys(0):  # what the store has of the last run is of all of its events
        fields = world.store.run(0, key)
        if fields["status"] == b"running" and not flaky and left[key]:
            assert int(fields["node:count"]) == left[key][-1].count or ends
    assert world.now >= NOW


@pytest.mark.parametrize("seed", range(200))
def test_a_workflow_without_keys_ends_at_any_moment_with_what_it_had_done(seed: int) -> None:
    draw = random.Random(seed)
    flaky = draw.random() < 0.5
    plan = plan_of(ends=draw.random() < 0.5, flaky=flaky, late="new-run", fuse=draw.random() < 0.4, keyed=False)
    log: Any = [(0, msgspec.json.encode(Token("", 11 * number, flaky and draw.random() < 0.2))) for number in range(60)]
    patience = draw.choice([FOR_EVER, 1_000])
    world = EndingWorld(SimpleNamespace(plan=plan), log, draw, faults=draw.random() < 0.7, patience=patience)  # type: ignore[arg-type]
    world.keys, world.kinds = ("",), ("terminate",)

    world.finish()

    assert world.core.idle
    fields = world.store.run(0, "")
    assert fields["status"] == (b"terminated" if world.asked else b"running")
    counts = [msgspec.json.decode(output.data or b"", type=Counted).count for output in world.store.outputs(0)]
    assert counts == list(range(1, len(counts) + 1))
    if not flaky and "node:count" in fields and patience == FOR_EVER:  # else what was under way is void
        assert int(fields["node:count"]) == len(counts)
        assert world.store.head(0).positions["tokens0/0"] == str(len(counts))
