"""Words that two nodes look at; what they found meets again. One of the nodes fails at some words, or dies of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flows import found_in
from flows.deadly import suffer
from headrace import Context, Event, Failure, Joined, KafkaSink, KafkaSource, Linear, Retry, Workflow
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


__getattr__ = found_in(__name__)
