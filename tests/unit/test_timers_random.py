"""Timers and time-outs of many runs in random worlds, with crashes, held against one event after the other by hand."""

import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace import Complete, Context, Event, KafkaSink, KafkaSource, Node, Timeout, Timer, Workflow
from headrace.testing import Harness
from headrace.testing.engine import CRASH_POINTS

MILLISECOND = timedelta(milliseconds=1)
KEYS = "abc"


class Told(msgspec.Struct, frozen=True):
    """What a node is to do with an event."""

    key: str
    set: dict[str, int] = {}
    """Timers to set: name -> milliseconds."""
    cancel: tuple[str, ...] = ()
    fails: bool = False
    ends: bool = False


class Kept(msgspec.Struct):
    seen: int = 0
    rang: int = 0


class Does(Node[Told, Kept, str | Complete]):
    def process(self, event: Event[Told], ctx: Context[Kept]) -> str | Complete:
        ctx.state.seen += 1
        for name in event.data.cancel:
            ctx.cancel_timer(name)
        for name, after in event.data.set.items():
            ctx.set_timer(name, after=after * MILLISECOND)
        if event.data.fails:
            raise RuntimeError("as told")
        return Complete(ctx.state.seen) if event.data.ends else f"{event.key} event {ctx.state.seen}"

    def on_timer(self, timer: Timer, ctx: Context[Kept]) -> str | None:
        ctx.state.rang += 1
        if timer.name == "again" and ctx.state.rang % 3:
            ctx.set_timer("again", after=7 * MILLISECOND)
        if timer.name == "x":
            ctx.cancel_timer("y")
        if timer.name == "y":
            ctx.set_timer("x", after=3 * MILLISECOND)
        if timer.name == "fails":
            ctx.set_timer("never", after=MILLISECOND)
            raise RuntimeError("as it does")
        return (
            f"{ctx.run.key} {timer.name} {ctx.state.seen} {ctx.state.rang} {int(timer.due.timestamp() * 1000) % 10**7}"
        )


def quiet(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key} out after {event.data.after // MILLISECOND} at {event.time_ms % 10**7}"


def passing(event: Event[Told], ctx: Context) -> Told:
    return event.data


def world(idle: int | None, total: int | None, *, ends: bool, fuse: Any) -> Any:
    workflow = Workflow("random", fuse=fuse)
    source = workflow.source(KafkaSource("told", Told, key="key"))
    sink = workflow.sink(KafkaSink("said", str))
    first, node = workflow.node(passing), workflow.node(Does())
    source.to(first)
    first.to(node)
    node.to(sink)
    if idle or not ends:
        out = workflow.node(quiet)
        out.to(sink)
    if idle:
        workflow.timeout(idle=idle * MILLISECOND).to(out)
    if total:
        timeout = workflow.timeout(total=total * MILLISECOND)
        if not ends:
            timeout.to(out)
    if not (idle or ends or total):
        source2 = workflow.timeout(total=timedelta(days=1))
        source2.to(out)
    return workflow, source, sink


class ByHand:
    """One run after the other, each event and timer by itself."""

    def __init__(self, idle: int | None, total: int | None, *, ends: bool) -> None:
        self.idle, self.total, self.ends = idle, total, ends
        self.said: dict[str, list[str]] = {key: [] for key in KEYS}
        self.runs: dict[str, dict[str, Any]] = {}

    def pass_to(self, key: str, now: int) -> None:
        """Whatever is due until then, each in its own moment."""
        while (run := self.runs.get(key)) is not None:
            due = [(at, "timer", name) for name, at in run["timers"].items()]
            if self.idle and run["idle"]:
                due.append((run["last"] + self.idle, "idle", ""))
            if self.total and run["total"]:
                due.append((run["begun"] + self.total, "total", ""))
            due = sorted(row for row in due if row[0] <= now)
            if not due:
                return
            self.ring(key, run, *due[0])

    def ring(self, key: str, run: dict[str, Any], at: int, kind: str, name: str) -> None:
        said = self.said[key]
        if kind == "timer":
            del run["timers"][name]
            if name == "fails":
                return
            run["rang"] += 1
            if name == "again" and run["rang"] % 3:
                run["timers"]["again"] = at + 7
            if name == "x":
                run["timers"].pop("y", None)
            if name == "y":
                run["timers"]["x"] = at + 3
            said.append(f"{key} {name} {run['seen']} {run['rang']} {at % 10**7}")
        elif kind == "idle":
            run["idle"] = False
            said.append(f"{key} out after {self.idle} at {at % 10**7}")
        elif self.ends:
            del self.runs[key]
        else:
            run["total"] = False
            said.append(f"{key} out after {self.total} at {at % 10**7}")

    def take(self, told: Told, now: int) -> None:
        run = self.runs.setdefault(told.key, {"seen": 0, "rang": 0, "timers": {}, "begun": now, "total": True})
        run.update(last=now, idle=True)
        if told.fails:
            return
        run["seen"] += 1
        for name in told.cancel:
            run["timers"].pop(name, None)
        for name, after in told.set.items():
            run["timers"][name] = now + after
        if told.ends:
            del self.runs[told.key]
        else:
            self.said[told.key].append(f"{told.key} event {run['seen']}")


def telling(chance: random.Random) -> Told:
    names = ["x", "y", "again", "fails"]
    return Told(
        chance.choice(KEYS),
        {name: chance.randrange(40) for name in names if chance.random() < 0.3},
        tuple(name for name in names if chance.random() < 0.15),
        fails=chance.random() < 0.15,
        ends=chance.random() < 0.1,
    )


@pytest.mark.parametrize("seed", range(120))
def test_what_falls_due_is_what_falls_due_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    idle = chance.choice([None, 5, 20])
    total = chance.choice([None, 15, 50])
    ends = bool(total) and chance.random() < 0.5
    workflow, source, sink = world(idle, total, ends=ends, fuse=chance.choice([None, "all"]))
    by_hand = ByHand(idle, total, ends=ends)
    crashes = 0
    with Harness(workflow, partitions=chance.choice([1, 2])) as harness:
        for _ in range(40):
            if chance.random() < 0.4:
                crashes += 1
                harness.crash_at(f"{chance.choice(CRASH_POINTS)}:{chance.randint(1, 4)}")
            harness.advance(chance.choice([0, 1, 3, 10, 30]) * MILLISECOND)
            now = harness._engine.now
            for key in KEYS:
                by_hand.pass_to(key, now)
            for told in [telling(chance) for _ in range(chance.choice([1, 1, 1, 4]))]:
                harness.send(source, told)
                by_hand.take(told, now)
                by_hand.pass_to(told.key, now)
        harness.advance(200 * MILLISECOND)
        for key in KEYS:
            by_hand.pass_to(key, harness._engine.now)
        said = {key: [message.data for message in unique(harness, sink) if message.key == key] for key in KEYS}

        assert said == by_hand.said
        for key in KEYS:
            run = by_hand.runs.get(key)
            assert (harness.runs[key].status == "running" if key in harness.runs else False) == (run is not None)


def unique(harness: Harness, sink: Any) -> list[Any]:
    return list({message.id: message for message in harness.messages(sink)}.values())
