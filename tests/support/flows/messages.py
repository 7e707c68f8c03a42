"""Runs that wait for messages: of two names, many in a row, for a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from flows import found_in
from headrace import Complete, Context, Event, KafkaSink, KafkaSource, MessageSource, Node, Timeout, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

WAIT: Final = timedelta(seconds=1)


class Text(msgspec.Struct, frozen=True):
    """A message."""

    text: str


class Count(msgspec.Struct, frozen=True):
    """One of a row."""

    number: int


class Had(msgspec.Struct):
    """What a run has had: how many, and how many of them out of order."""

    count: int = 0
    wrong: int = 0


@dataclass(frozen=True)
class Two:
    """The workflow with its parts."""

    workflow: Workflow
    orders: SourceHandle[str]
    a: SourceHandle[Text]
    t: SourceHandle[Text]
    said: SinkHandle[str]


@dataclass(frozen=True)
class Row:
    """The same."""

    workflow: Workflow
    orders: SourceHandle[str]
    numbers: SourceHandle[Count]
    node: NodeHandle[Any, Any]


@dataclass(frozen=True)
class Short:
    """The same."""

    workflow: Workflow
    orders: SourceHandle[str]
    said: SinkHandle[str]


def say(event: Event[Text], ctx: Context) -> str:
    return f"{event.key}: {event.data.text}"


def expire(event: Event[Timeout], ctx: Context) -> str:
    return f"{event.key}: nothing after {event.data.after.total_seconds():g} s"


def two(unique: str) -> Two:
    """A run waits for a message t, then for two messages a."""
    workflow = Workflow(f"two-{unique}")
    orders = workflow.source(KafkaSource(f"orders-{unique}", str, name="orders"))
    a, t = workflow.source(MessageSource("a", Text)), workflow.source(MessageSource("t", Text))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    first, second, third = workflow.wait(t, name="t"), workflow.wait(a, name="a1"), workflow.wait(a, name="a2")
    nodes = [workflow.node(say, name=f"say{number}") for number in (1, 2, 3)]
    orders.to(first)
    for wait, node, following in zip((first, second, third), nodes, (second, third, Complete), strict=True):
        wait.to(node)
        node.to(said, following)
    return Two(workflow, orders, a, t, said)


class Collect(Node[Count, Had, Count]):
    """Counts, and waits for the next one."""

    def process(self, event: Event[Count], ctx: Context[Had]) -> Count:
        ctx.state.wrong += event.data.number != ctx.state.count
        ctx.state.count += 1
        return event.data


def row(unique: str) -> Row:
    """A run takes one message after the other."""
    workflow = Workflow(f"row-{unique}")
    orders = workflow.source(KafkaSource(f"orders-{unique}", str, name="orders"))
    numbers = workflow.source(MessageSource("numbers", Count))
    wait, node = workflow.wait(numbers, name="next"), workflow.node(Collect(), name="collect")
    orders.to(wait)
    wait.to(node)
    node.to(wait)
    return Row(workflow, orders, numbers, node)


def short(unique: str) -> Short:
    """A run waits for a second; nobody sends anything."""
    workflow = Workflow(f"short-{unique}")
    orders = workflow.source(KafkaSource(f"orders-{unique}", str, name="orders"))
    messages = workflow.source(MessageSource("a", Text))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    wait, node, over = workflow.wait(messages, timeout=WAIT), workflow.node(say), workflow.node(expire)
    orders.to(wait)
    wait.to(node)
    wait.on(Timeout).to(over)
    node.to(said, Complete)
    over.to(said, Complete)
    return Short(workflow, orders, said)


__getattr__ = found_in(__name__)
