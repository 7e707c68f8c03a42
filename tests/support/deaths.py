"""Processes that die of an event, without processes: runners, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.workflows.calls import Call, CallResult
from headrace.workflows.runner import UnitRunner

KEYS = ("a", "b", "c")
WORDS = ("one", "two", "one", "two", "one", "two")
VERSION = "v1"


class Died(BaseException):
    """Stands for the end of the process: nothing of ours runs any more."""


class Words:
    """What nodes had, over all lives; `deadly` (key, word) ends the process."""

    def __init__(self) -> None:
        self.deadly: tuple[str, str] | None = ("b", "two")
        self.had: list[tuple[str, ...]] = []

    def take(self, events: Sequence[Event[str]]) -> list[str]:
        self.had.append(tuple(f"{event.key}/{event.data}" for event in events))
        if any((event.key, event.data) == self.deadly for event in events):
            raise Died
        return [event.data for event in events]


def unit_of(words: Words, kind: str, timeout: timedelta | None = None) -> Workflow:
    def singly(event: Event[str], ctx: Context[list[str]]) -> str:
        ctx.state.append(event.data)
        return words.take([event])[0]

    async def side_by_side(event: Event[str], ctx: Context[list[str]]) -> str:
        await asyncio.sleep(0)
        return singly(event, ctx)

    class Together(BatchNode[str, list[str], str]):
        def process(self, events: Sequence[Event[str]], ctxs: Sequence[Context[list[str]]]) -> list[str]:
            for event, ctx in zip(events, ctxs, strict=True):
                ctx.state.append(event.data)
            return words.take(events)

    node: Any = {"waves": singly, "async": side_by_side, "batch": Together()}[kind]
    workflow = Workflow("words")
    source, sink = workflow.source(KafkaSource("words", str)), workflow.sink(KafkaSink("said", str))
    reads = workflow.node(node, name="read", timeout=timeout)
    source.to(reads)
    reads.to(sink)
    return workflow


def call_of(number: int = 1, owner: str = "o", words: Sequence[str] = WORDS, first: int = 0) -> Call:
    count = len(words)
    return Call(
        partition=0, unit=0, replica=0, number=number, owner=owner, now=0, keys=list(KEYS), numbers=[1, 2, 3],
        bases=[0] * len(KEYS), states=[[None]] * len(KEYS), shared=None,
        runs=[index // 2 % len(KEYS) for index in range(count)], nodes=[0] * count, types=[0] * count,
        blobs=[msgspec.json.encode(word) for word in words], origins=["words/0@t"], origin_of=[0] * count,
        offsets=list(range(first, first + count)), times=[0] * count,
    )  # fmt: skip


def run(runner: UnitRunner, call: Call) -> CallResult:
    return asyncio.run(runner.run_async(call)) if runner.is_async else runner.run(call)
