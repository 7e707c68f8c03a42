"""Timers, time-outs and waits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from flows import found_in
from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    MessageSource,
    Node,
    Timeout,
    Timer,
    Workflow,
)
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

SOON = timedelta(milliseconds=300)
LATER = timedelta(seconds=2)
TOTAL = timedelta(seconds=2)
PATIENCE = timedelta(seconds=8)
"""Enough for a cluster to start, and a message to be sent, on a machine that others use, too."""


@dataclass(frozen=True)
class Timed:
    workflow: Workflow
    words: SourceHandle[str]
    watch: NodeHandle[Any, Any]
    said: SinkHandle[str]


class Watch(Node[str, int, str]):
    """Says so when nothing has come for a while; `off` takes that back."""

    def __init__(self, after: timedelta) -> None:
        self._after = after

    def process(self, event: Event[str], ctx: Context[int]) -> str:
        ctx.state = (ctx.state or 0) + 1
        if event.data == "off":
            ctx.cancel_timer("quiet")
        else:
            ctx.set_timer("quiet", after=self._after)
        return f"{event.key} {event.data}"

    def on_timer(self, timer: Timer, ctx: Context[int]) -> str:
        return f"{ctx.run.key} {timer.name} after {ctx.state}"


def silent(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key} idle for {event.data.after.total_seconds():g}"


def watched(unique: str) -> Timed:
    """A node with timers, and an idle time-out."""
    return _watched(f"watched-{unique}", unique, SOON)


def watched_long(unique: str) -> Timed:
    """The same, with time for somebody to look at what is set before it is due, on a machine that others use, too."""
    return _watched(f"watched-long-{unique}", unique, LATER)


def _watched(name: str, unique: str, after: timedelta) -> Timed:
    workflow = Workflow(name)
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    watch, quiet = workflow.node(Watch(after), name="watch"), workflow.node(silent)
    words.to(watch)
    watch.to(said)
    workflow.timeout(idle=2 * after).to(quiet)
    quiet.to(said)
    return Timed(workflow, words, watch, said)


class Approval(msgspec.Struct, frozen=True):
    by: str


@dataclass(frozen=True)
class Approved:
    workflow: Workflow
    orders: SourceHandle[str]
    approvals: SourceHandle[Approval]
    said: SinkHandle[str]


def ask(event: Event[str], ctx: Context) -> str | None:
    if event.data.startswith("approve "):
        ctx.send(event.data.removeprefix("approve "), "approval", Approval(event.key))
        return None
    return event.data


def decide(event: Event[Approval], ctx: Context) -> str:
    return f"{event.key} by {event.data.by}"


def expire(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key} by nobody"


def approved(unique: str) -> Approved:
    """Orders wait for an approval: a message, from outside or from the node of another order."""
    workflow = Workflow(f"approved-{unique}")
    orders = workflow.source(KafkaSource(f"orders-{unique}", str, name="orders"))
    approvals = workflow.source(MessageSource("approval", Approval))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    asked, decided, expired = workflow.node(ask), workflow.node(decide), workflow.node(expire)
    approval = workflow.wait(approvals, timeout=PATIENCE)
    orders.to(asked)
    asked.to(approval)
    approval.to(decided)
    approval.on(Timeout).to(expired)
    decided.to(said, Complete)
    expired.to(said, Complete)
    return Approved(workflow, orders, approvals, said)


@dataclass(frozen=True)
class Lone:
    workflow: Workflow
    numbers: SourceHandle[int]


def lone(unique: str) -> Lone:
    """An unkeyed workflow that nothing comes to."""
    workflow = Workflow(f"lone-{unique}", keyed=False)
    numbers = workflow.source(ChannelSource(int, capacity=2, name="numbers"))
    numbers.to(None)
    workflow.timeout(total=timedelta(milliseconds=50))
    return Lone(workflow, numbers)


class Doze(Node[str, int, str]):
    """Takes longer than its workflow may."""

    def process(self, event: Event[str], ctx: Context[int]) -> str:
        ctx.state = (ctx.state or 0) + 1
        time.sleep(2 * TOTAL.total_seconds())
        return event.data


def dozing(unique: str) -> Timed:
    """An unkeyed workflow that is over while a node has its first event."""
    workflow = Workflow(f"dozing-{unique}", keyed=False)
    words = workflow.source(ChannelSource(str, capacity=3, name="words"))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    node = workflow.node(Doze(), name="doze")
    words.to(node)
    node.to(said)
    workflow.timeout(total=TOTAL)
    return Timed(workflow, words, node, said)


__getattr__ = found_in(__name__)
