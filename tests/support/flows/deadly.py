"""Words of many keys, some of which end the process of the node that reads them, or never let it go."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from flows import found_in
from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

LONG: Final = 3600
TIMEOUT: Final = timedelta(milliseconds=500)


@dataclass(frozen=True)
class Deadly:
    workflow: Workflow
    words: SourceHandle[str]
    node: NodeHandle[Any, Any]
    passed: SinkHandle[str]


def suffer(word: str) -> None:
    """Do what the word says."""
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "segv":
        faulthandler._sigsegv()  # type: ignore[attr-defined]
    elif word == "sleep":
        time.sleep(LONG)
    elif word == "hold":
        ctypes.PyDLL(None).sleep(LONG)  # the interpreter's lock is not let go


def fragile(event: Event[str], ctx: Context[list[str]]) -> str:
    ctx.state.append(event.data)
    suffer(event.data)
    return f"{event.key} {event.data} {len(ctx.state)}"


class Together(BatchNode[str, list[str], str]):
    """The same, many words at once."""

    def process(self, events: Sequence[Event[str]], ctxs: Sequence[Context[list[str]]]) -> list[str]:
        return [fragile(event, ctx) for event, ctx in zip(events, ctxs, strict=True)]


def _flow(name: str, unique: str, node: Any, **options: Any) -> Deadly:
    workflow = Workflow(f"{name}-{unique}")
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    reads = workflow.node(node, name="fragile", **options)
    passed = workflow.sink(KafkaSink(f"passed-{unique}", str, name="passed"))
    words.to(reads)
    reads.to(passed)
    return Deadly(workflow, words, reads, passed)


def singly(unique: str) -> Deadly:
    """Without a deadline."""
    return _flow("singly", unique, fragile)


def timed(unique: str) -> Deadly:
    """With one."""
    return _flow("timed", unique, fragile, timeout=TIMEOUT)


def batched(unique: str) -> Deadly:
    """Many at once, with one."""
    return _flow("batched", unique, Together(), batch_size=50, timeout=TIMEOUT)


__getattr__ = found_in(__name__)
