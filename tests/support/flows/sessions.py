"""Runs with a shared state, runs that end, events that fan out, batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from flows import found_in
from headrace import (
    BatchNode,
    ChannelSource,
    Complete,
    Context,
    Event,
    KafkaSink,
    KafkaSource,
    Node,
    Reject,
    Terminate,
    Workflow,
)
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Record(msgspec.Struct):
    """Shared by the nodes of a run."""

    history: list[float] = []
    mean: float = 0.0
    alerts: list[float] = []


def measure(event: Event[Reading], ctx: Context[None, Record]) -> Reading:
    record = ctx.run.state
    record.history.append(event.data.celsius)
    record.mean += (event.data.celsius - record.mean) / len(record.history)
    return event.data


async def watch(event: Event[Reading], ctx: Context[None, Record]) -> None:
    await asyncio.sleep(0)
    if event.data.celsius > ctx.run.state.mean + 5:
        ctx.run.state.alerts.append(event.data.celsius)


@dataclass(frozen=True)
class Shared:
    workflow: Workflow
    readings: SourceHandle[Reading]


def shared(unique: str) -> Shared:
    """History, mean and alerts in the state of the run."""
    workflow = Workflow(f"shared-{unique}", state=Record)
    readings = workflow.source(KafkaSource(f"readings-{unique}", Reading, key="sensor", name="readings"))
    measuring, watching = workflow.node(measure), workflow.node(watch)
    readings.to(measuring)
    measuring.to(watching)
    return Shared(workflow, readings)


class Order(msgspec.Struct, frozen=True):
    id: str
    step: str


def first(event: Event[Order], ctx: Context[list[str]]) -> Order | Complete | Terminate:
    ctx.state.append(event.data.step)
    match event.data.step:
        case "complete at first":
            return Complete({"steps": len(ctx.state)})
        case "terminate at first":
            return Terminate("no more")
        case _:
            return event.data


def second(event: Event[Order], ctx: Context[list[str]]) -> Order | Complete | Terminate | None:
    ctx.state.append(event.data.step)
    match event.data.step:
        case "complete at second":
            return Complete("done")
        case "terminate at second":
            return Terminate("enough")
        case "complete by route":
            return event.data
        case _:
            return None


@dataclass(frozen=True)
class Ends:
    workflow: Workflow
    orders: SourceHandle[Order]
    first: NodeHandle[Any, Any]
    second: NodeHandle[Any, Any]


def ends(unique: str) -> Ends:
    """Runs that end in any node, or by a route."""
    workflow = Workflow(f"ends-{unique}")
    orders = workflow.source(ChannelSource(Order, capacity=100, key="id", name="orders"))
    one, two = workflow.node(first), workflow.node(second)
    orders.to(one)
    one.to(two)
    two.to(Complete)
    return Ends(workflow, orders, one, two)


class Word(msgspec.Struct, frozen=True):
    author: str
    text: str


class Collect(Node[Word, list[str], Word]):
    """One instance stands at two places of the graph."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def process(self, event: Event[Word], ctx: Context[list[str]]) -> Word:
        ctx.state.append(event.data.text)
        return Word(event.data.author, f"{self.mark}{event.data.text}")


def join(event: Event[Word], ctx: Context[list[str]]) -> Word:
    ctx.state.append(event.data.text)
    return event.data


@dataclass(frozen=True)
class Fan:
    workflow: Workflow
    words: SourceHandle[Word]
    left: NodeHandle[Any, Any]
    right: NodeHandle[Any, Any]
    joined: NodeHandle[Any, Any]
    out: SinkHandle[Word]


def fan(unique: str) -> Fan:
    """Each event to two nodes, whose results meet again."""
    workflow = Workflow(f"fan-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", Word, key="author", name="words"))
    left = workflow.node(Collect("l:"), name="left")
    right = workflow.node(Collect("r:"), name="right", replicas=2)
    joined = workflow.node(join)
    out = workflow.sink(KafkaSink(f"joined-{unique}", Word, name="joined"))
    words.to(left, right)
    left.to(joined)
    right.to(joined)
    joined.to(out)
    return Fan(workflow, words, left, right, joined, out)


class Scored(msgspec.Struct):
    count: int = 0
    batches: list[int] = []
    """Size of the batch that each of its events was in."""


class Score(BatchNode[Word, Scored, Word]):
    """Refuses "bad" in its place, and fails as a whole at "poison"."""

    def process(self, events: Sequence[Event[Word]], ctxs: Sequence[Context[Scored]]) -> Sequence[Word | Reject]:
        results: list[Word | Reject] = []
        for event, ctx in zip(events, ctxs, strict=True):
            ctx.state.count += 1
            ctx.state.batches.append(len(events))
            if event.data.text == "poison":
                raise RuntimeError("the model has crashed")
            results.append(Reject("a bad word") if event.data.text == "bad" else event.data)
        return results


@dataclass(frozen=True)
class Batches:
    workflow: Workflow
    words: SourceHandle[Word]
    score: NodeHandle[Any, Any]
    out: SinkHandle[Word]


def batches(unique: str) -> Batches:
    """A node that takes batches of at most 4."""
    workflow = Workflow(f"batches-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", Word, key="author", name="words"))
    score = workflow.node(Score(), batch_size=4)
    out = workflow.sink(KafkaSink(f"scored-{unique}", Word, name="scored"))
    words.to(score)
    score.to(out)
    return Batches(workflow, words, score, out)


__getattr__ = found_in(__name__)
