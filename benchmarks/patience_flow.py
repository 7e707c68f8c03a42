"""Workflows that wait: timers of a million runs, a node that fails for a time, one key that fails for a minute.

Imported by name in every process: `timers__<topic>`, `storm__<topic>`, `calm__<topic>`, `hot__<topic>`; and `failing`,
`sensors` for the three nodes of `flow` with and without a storm before the second one, `failing_25us` and
`sensors_25us` where that one takes so long.
"""

from __future__ import annotations

import time
import zlib
from datetime import timedelta
from typing import Any

import msgspec

from benchmarks.flow import Heat, hot, make
from benchmarks.workload import Reading
from headrace import Context, Event, KafkaSink, KafkaSource, Linear, Node, Retry, Timer, Workflow

LATE = "bench-late"
HOT_KEY = "hot"
FAILING = 3
"""Of ten attempts."""


class Wish(msgspec.Struct, frozen=True):
    """To be told so many seconds later."""

    key: str
    seconds: float
    sent: float = 0.0
    """Seconds since 1970, by the clock of who sent it."""
    work: int = 0
    """Microseconds that each attempt at it takes the processor."""


class Later(Node[Wish, None, float]):
    """Tells how late its timers came, in milliseconds."""

    def process(self, event: Event[Wish], ctx: Context) -> None:
        """Set the timer."""
        ctx.set_timer("later", after=timedelta(seconds=event.data.seconds))

    def on_timer(self, timer: Timer, ctx: Context) -> float:
        """How late it is."""
        return (ctx.now - timer.due).total_seconds() * 1000


def fails(event: Event[Wish], ctx: Context) -> None:
    """Three of ten attempts fail, by chance that hangs on event and attempt."""
    _work(event.data.work)
    if _chance(event, ctx) < FAILING:
        raise OSError("not now")


def works(event: Event[Wish], ctx: Context) -> None:
    """None fails."""
    _work(event.data.work)
    _chance(event, ctx)


def hot_or_fails(event: Event[Reading], ctx: Context) -> Heat:
    """Lets hot readings through; three of ten attempts fail."""
    if _chance(event, ctx) < FAILING:
        raise OSError("not now")
    return hot(event, ctx)


def hot_always(event: Event[Reading], ctx: Context) -> Heat:
    """Lets hot readings through; none fails."""
    _chance(event, ctx)
    return hot(event, ctx)


def hot_or_fails_25us(event: Event[Reading], ctx: Context) -> Heat:
    """The same, where each attempt takes 25 microseconds."""
    _work(25)
    return hot_or_fails(event, ctx)


def hot_always_25us(event: Event[Reading], ctx: Context) -> Heat:
    """The same, where each attempt takes 25 microseconds."""
    _work(25)
    return hot_always(event, ctx)


def one_fails(event: Event[Wish], ctx: Context) -> float:
    """One key fails for a minute at a time; of the others, when they were sent."""
    if event.key == HOT_KEY:
        raise OSError("not now")
    return event.data.sent


def _chance(event: Event[Any], ctx: Context) -> int:
    return zlib.crc32(f"{event.id}/{ctx.attempt}".encode()) % 10


def _work(microseconds: int) -> None:
    if microseconds:
        until = time.perf_counter_ns() + 1000 * microseconds
        while time.perf_counter_ns() < until:
            pass


STORM = Retry(5, backoff=Linear(timedelta(milliseconds=10), timedelta(milliseconds=10)))


SECOND = {
    "sensors": hot_always, "failing": hot_or_fails, "sensors_25us": hot_always_25us, "failing_25us": hot_or_fails_25us,
}  # fmt: skip
"""The second of three nodes, by name of the workflow."""


def _workflow(name: str, topic: str) -> Workflow:
    if name in SECOND:
        return make(f"{name.replace('_', '-')}-{topic}", topic, passes=SECOND[name], partitions=1, retry=STORM)
    workflow = Workflow(f"{name}-{topic}", partitions=1)
    wishes = workflow.source(KafkaSource(topic, Wish, key="key", name="wishes"))
    minute = Retry(5, backoff=Linear(timedelta(minutes=1)))
    match name:
        case "timers":
            node: Any = workflow.node(Later(), name="node")
        case "storm":
            node = workflow.node(fails, name="node", retry=STORM)
        case "calm":
            node = workflow.node(works, name="node", retry=STORM)
        case _:
            node = workflow.node(one_fails, name="node", retry=minute)
    wishes.to(node)
    if name in ("timers", "hot"):
        node.to(workflow.sink(KafkaSink(LATE, float)))
    return workflow


def storm_of(kind: str) -> Workflow:
    """The workflow of the storm, or the calm one."""
    return _workflow(kind, "loop")


def __getattr__(attribute: str) -> Workflow:
    name, _, topic = attribute.partition("__")
    if not topic:
        raise AttributeError(f"no {attribute!r} here")
    return _workflow(name, topic.replace("_", "-"))
