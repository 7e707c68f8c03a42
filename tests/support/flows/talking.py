"""A conversation: replies, values and streams of its runs; some turns are tried again, or fail in the midst."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from flows import found_in
from headrace import Complete, Context, Event, Linear, RequestSource, Retry, Workflow
from headrace.workflows.handles import SourceHandle


class Said(msgspec.Struct, frozen=True):
    session: str
    text: str


class Session(msgspec.Struct):
    turns: int = 0


def count(event: Event[Said], ctx: Context[None, Session]) -> Said:
    ctx.run.state.turns += 1
    ctx.set_value("turns", ctx.run.state.turns)
    ctx.set_value("last", None if event.data.text == "null" else event.data.text)
    return event.data


async def answer(event: Event[Said], ctx: Context[None, Session]) -> Said | Complete:
    words = event.data.text.split()
    async with ctx.stream("tokens") as tokens:
        for word in words:
            await tokens.write(word)
            await asyncio.sleep(0)
        if words[0] == "again" and ctx.attempt < 3:
            raise OSError("not now")
        if words[0] == "fail":
            raise ValueError("can't answer")
    if words[0] == "bye":
        return Complete({"turns": ctx.run.state.turns})
    if words[0] != "hush":
        ctx.reply({"words": len(words), "attempt": ctx.attempt})
    return event.data


RETRY = Retry(3, on=(OSError,), backoff=Linear(timedelta(milliseconds=200)))


@dataclass(frozen=True)
class Talking:
    workflow: Workflow
    said: SourceHandle[Said]


def talking(unique: str) -> Talking:
    """A session counts its turns and answers them, word by word."""
    workflow = Workflow(f"talking-{unique}", state=Session, partitions=2)
    said = workflow.source(RequestSource(Said, key="session"))
    counts, answers = workflow.node(count), workflow.node(answer, retry=RETRY)
    said.to(counts)
    counts.to(answers)
    answers.to(None)
    return Talking(workflow, said)


__getattr__ = found_in(__name__)
