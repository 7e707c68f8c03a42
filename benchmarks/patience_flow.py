"""Workflows that wait: timers of a million runs, a node that fails for a time, one key that fails for a minute.

Imported by name in every process: `timers__<topic>`, `storm__<topic>`, `calm__<topic>`, `hot__<topic>`.
"""

from __future__ import annotations

import time
import zlib
from datetime import timedelta
from typing import Any

import msgspec

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
    if zlib.crc32(f"{event.id}/{ctx.attempt}".encode()) % 10 < FAILING:
        raise OSError("not now")


def works(event: Event[Wish], ctx: Context) -> None:
    """None fails."""
    _work(event.data.work)
    zlib.crc32(f"{event.id}/{ctx.attempt}".encode())


def one_fails(event: Event[Wish], ctx: Context) -> float:
    """One key fails for a minute at a time; of the others, when they were sent."""
    if event.key == HOT_KEY:
        raise OSError("not now")
    return event.data.sent


def _work(microseconds: int) -> None:
    if microseconds:
        until = time.perf_counter_ns() + 1000 * microseconds
        while time.perf_counter_ns() < until:
            pass


def _workflow(name: str, topic: str) -> Workflow:
    workflow = Workflow(f"{name}-{topic}", partitions=1)
    wishes = workflow.source(KafkaSource(topic, Wish, key="key", name="wishes"))
    storm = Retry(5, backoff=Linear(timedelta(milliseconds=10), timedelta(milliseconds=10)))
    minute = Retry(5, backoff=Linear(timedelta(minutes=1)))
    match name:
        case "timers":
            node: Any = workflow.node(Later(), name="node")
        case "storm":
            node = workflow.node(fails, name="node", retry=storm)
        case "calm":
            node = workflow.node(works, name="node", retry=storm)
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
