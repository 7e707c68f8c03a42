"""Readings from Kafka: averages by sensor, texts by the record's own key, and what can't be processed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from flows import found_in
from headrace import Context, Event, KafkaSink, KafkaSource, Linear, Node, Reject, RequestSource, Retry, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float
    note: str = ""


class Average(msgspec.Struct):
    count: int = 0
    mean: float = 0.0


class Mean(Node[Reading, Average, Reading]):
    """Changes its state before it fails, on purpose."""

    def process(self, event: Event[Reading], ctx: Context[Average]) -> Reading:
        celsius = event.data.celsius
        ctx.state.count += 1
        ctx.state.mean += (celsius - ctx.state.mean) / ctx.state.count
        if celsius < -273.15:
            raise ValueError(f"{celsius} is below absolute zero")
        if celsius > 1000:
            raise Reject("no such heat")
        return Reading(event.data.sensor, ctx.state.mean)


def remember(event: Event[str], ctx: Context[list[str]]) -> None:
    ctx.state.append(event.data)


class Gate(Node[str, bool, str]):
    """Fails until somebody says "open"; what it lets through then goes on."""

    def process(self, event: Event[str], ctx: Context[bool]) -> str | None:
        if event.data.startswith("OPEN"):
            ctx.state = True
            return None
        if not ctx.state:
            raise ValueError("the gate is closed")
        return event.data


def loud(event: Event[str], ctx: Context[int]) -> str:
    ctx.state += 1
    return f"{event.data} {ctx.state}".upper()


@dataclass(frozen=True)
class Gated:
    workflow: Workflow
    words: SourceHandle[str]
    node: NodeHandle[Any, Any]
    passed: SinkHandle[str]


def gated(unique: str) -> Gated:
    """Words are made loud, then they come to a gate."""
    workflow = Workflow(f"gated-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    louder, gate = workflow.node(loud), workflow.node(Gate())
    passed = workflow.sink(KafkaSink(f"passed-{unique}", str, name="passed"))
    words.to(louder)
    louder.to(gate)
    gate.to(passed)
    return Gated(workflow, words, louder, passed)


async def patient(event: Event[str], ctx: Context[int]) -> str:
    """Waits for ever for what is "stuck"."""
    ctx.state += 1
    if event.data == "stuck":
        await asyncio.sleep(3600)
    return f"{event.data} {ctx.state}"


def waiting(unique: str) -> Gated:
    """Words that a node asks somebody about, who may never answer."""
    workflow = Workflow(f"waiting-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    node = workflow.node(patient, timeout=timedelta(milliseconds=300))
    passed = workflow.sink(KafkaSink(f"passed-{unique}", str, name="passed"))
    words.to(node)
    node.to(passed)
    return Gated(workflow, words, node, passed)


def flaky(event: Event[str], ctx: Context[int]) -> str:
    ctx.state += 1
    if event.data == "flaky" and ctx.attempt < 3:
        raise ConnectionError("not now")
    if event.data == "broken":
        raise ConnectionError("never")
    return f"{event.key} {event.data} {ctx.state}"


def trying(unique: str) -> Gated:
    """Words that a node fails for a time, or for good."""
    workflow = Workflow(f"trying-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    node = workflow.node(flaky, retry=Retry(3, backoff=Linear(timedelta(milliseconds=50))))
    passed = workflow.sink(KafkaSink(f"passed-{unique}", str, name="passed"))
    words.to(node)
    node.to(passed)
    return Gated(workflow, words, node, passed)


async def answer(event: Event[Reading], ctx: Context[Average]) -> None:
    ctx.state.count += 1
    ctx.reply({"sensor": event.key, "asked": ctx.state.count})


@dataclass(frozen=True)
class Sensors:
    workflow: Workflow
    readings: SourceHandle[Reading]
    texts: SourceHandle[str]
    asks: SourceHandle[Reading]
    mean: NodeHandle[Any, Any]
    remember: NodeHandle[Any, Any]
    answer: NodeHandle[Any, Any]
    means: SinkHandle[Reading]


def sensors(unique: str) -> Sensors:
    """Two topics and requests in, one topic out."""
    workflow = Workflow(f"sensors-{unique}")
    readings = workflow.source(KafkaSource(f"readings-{unique}", Reading, key="sensor", name="readings"))
    texts = workflow.source(KafkaSource(f"texts-{unique}", str, name="texts"))
    asks = workflow.source(RequestSource(Reading, key="sensor", name="asks"))
    mean, remembered, answering = workflow.node(Mean()), workflow.node(remember), workflow.node(answer)
    means = workflow.sink(KafkaSink(f"means-{unique}", Reading, name="means"))
    readings.to(mean)
    mean.to(means)
    texts.to(remembered)
    asks.to(answering)
    return Sensors(workflow, readings, texts, asks, mean, remembered, answering, means)


__getattr__ = found_in(__name__)
