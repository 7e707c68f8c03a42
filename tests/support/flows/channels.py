"""Numbers and lines through channels: `stop_at_three` and `narrow` end by themselves, `lines` keeps who sent what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from flows import found_in
from headrace import ChannelSource, Context, Event, Terminate, Workflow
from headrace.workflows.handles import NodeHandle, SourceHandle


def take(event: Event[int], ctx: Context[list[int]]) -> Terminate | None:
    ctx.state.append(event.data)
    return Terminate("three") if event.data == 3 else None


@dataclass(frozen=True)
class Numbers:
    workflow: Workflow
    numbers: SourceHandle[int]
    take: NodeHandle[Any, Any]


def stop_at_three(unique: str) -> Numbers:
    """One run; 3 terminates it."""
    return _numbers(Workflow(f"numbers-{unique}", keyed=False), capacity=10)


def narrow(unique: str) -> Numbers:
    """The same with room for two."""
    return _numbers(Workflow(f"narrow-{unique}", keyed=False), capacity=2)


def _numbers(workflow: Workflow, capacity: int) -> Numbers:
    numbers = workflow.source(ChannelSource(int, capacity=capacity, name="numbers"))
    node = workflow.node(take)
    numbers.to(node)
    return Numbers(workflow, numbers, node)


class Line(msgspec.Struct, frozen=True):
    sender: str
    number: int


class Journal(msgspec.Struct):
    count: int = 0
    next: int = 0
    wrong: list[int] = []
    """Numbers that did not come in their turn."""


def keep(event: Event[Line], ctx: Context[Journal]) -> None:
    journal = ctx.state
    journal.count += 1
    if event.data.number != journal.next:
        journal.wrong.append(event.data.number)
    journal.next = event.data.number + 1


@dataclass(frozen=True)
class Lines:
    workflow: Workflow
    lines: SourceHandle[Line]
    keep: NodeHandle[Any, Any]


def lines(unique: str) -> Lines:
    """A run for each sender."""
    workflow = Workflow(f"lines-{unique}")
    source = workflow.source(ChannelSource(Line, capacity=50, key="sender", name="lines"))
    node = workflow.node(keep)
    source.to(node)
    return Lines(workflow, source, node)


__getattr__ = found_in(__name__)
