"""Words that two nodes look at; what they found meets again. One of the nodes fails at some words, or dies of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flows import found_in
from flows.deadly import suffer
from headrace import (
    ChannelSource,
    Complete,
    Context,
    Event,
    Failure,
    Joined,
    KafkaSink,
    KafkaSource,
    Linear,
    Retry,
    Workflow,
)
from headrace.workflows.handles import SinkHandle, SourceHandle


@dataclass(frozen=True)
class Meetings:
    workflow: Workflow
    words: SourceHandle[str]
    told: SinkHandle[str]


def measure(event: Event[str], ctx: Context) -> int:
    return len(event.data)


def fragile(event: Event[str], ctx: Context[list[str]]) -> str:
    ctx.state.append(event.data)
    if event.data.startswith("flaky") and ctx.attempt < 2:
        raise OSError("not now")
    if event.data.startswith("bad"):
        raise ValueError(f"no {event.data}")
    suffer(event.data)
    return event.data.upper()


def mend(event: Event[Failure], ctx: Context) -> str:
    return f"{event.key} {event.data.data} failed: {event.data.reason}"


def tell(event: Event[Joined[tuple[int | None, str | None]]], ctx: Context) -> str:
    length, loud = event.data.results
    return f"{event.key} {length} {loud} {sorted(event.data.failed)}"


def meetings(unique: str) -> Meetings:
    """Words -> measure and fragile -> joined -> tell -> told; failures of fragile -> mend -> told."""
    workflow = Workflow(f"meetings-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    told = workflow.sink(KafkaSink(f"told-{unique}", str, name="told"))
    measuring = workflow.node(measure)
    breaking = workflow.node(fragile, retry=Retry(3, on=(OSError,), backoff=Linear(timedelta(milliseconds=50))))
    mending, telling = workflow.node(mend), workflow.node(tell)
    joined = workflow.join(measuring, breaking, name="both")
    words.to(measuring, breaking)
    breaking.on(Failure).to(mending)
    mending.to(told)
    joined.to(telling)
    telling.to(told)
    return Meetings(workflow, words, told)


def split(event: Event[str], ctx: Context) -> list[str]:
    return event.data.split()


def end(event: Event[Joined[tuple[int | None, str | None]]], ctx: Context) -> Complete:
    return Complete(tell(event, ctx))


def said(event: Event[Complete], ctx: Context) -> str:
    return str(event.data.result)


def around(inner: Workflow, name: str) -> Workflow:
    """A workflow that has another one as its only node, and ends with it."""
    workflow = Workflow(name)
    words = workflow.source(ChannelSource(str, capacity=10, key=str))
    node = workflow.node(inner, name="in")
    words.to(node)
    node.on(Complete).to(Complete)
    return workflow


def meetings_inside(unique: str) -> Meetings:
    """Words -> split -> look -> said -> told; in `look`, three deep: measure and fragile -> joined -> its end."""
    inner = Workflow(f"looking-{unique}")
    words = inner.source(ChannelSource(str, capacity=10, key=str))
    retry = Retry(3, on=(OSError,), backoff=Linear(timedelta(milliseconds=50)))
    measuring, breaking, ending = inner.node(measure), inner.node(fragile, retry=retry), inner.node(end)
    words.to(measuring, breaking)
    inner.join(measuring, breaking, name="both").to(ending)
    workflow = Workflow(f"inside-{unique}")
    texts = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    told = workflow.sink(KafkaSink(f"told-{unique}", str, name="told"))
    splitting, saying = workflow.node(split), workflow.node(said)
    look = workflow.node(around(around(inner, f"middle-{unique}"), f"outer-{unique}"), name="look")
    texts.to(splitting)
    splitting.to(look)
    look.on(Complete).to(saying)
    saying.to(told)
    return Meetings(workflow, texts, told)


__getattr__ = found_in(__name__)
