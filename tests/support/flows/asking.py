"""Questions to a model that takes its time: what one says is what becomes of it. Notes of its calls lie in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from flows import found_in
from headrace import BatchNode, Context, Event, KafkaSink, KafkaSource, Node, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle

DEADLINE: Final = timedelta(seconds=1)
"""Of an epoch: what takes longer goes on by itself."""
LIVES: Final = 2.0
"""Seconds after which what is deadly is so: its call is not waited for any more by then."""


@dataclass
class Asking:
    """The workflow with its parts."""

    workflow: Workflow
    words: SourceHandle[str]
    model: NodeHandle[str, str]
    said: SinkHandle[str]
    go: Path
    """While it is there, what is slow ends."""
    log: Path

    @property
    def notes(self) -> list[str]:
        """What was noted, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


class Model(Node[str, list[str], str]):
    """Keeps the words of a key, and passes them on."""

    def __init__(self, go: Path, log: Path) -> None:
        self.go = go
        self.log = log

    def note(self, text: str) -> None:
        """One line, whoever else writes."""
        with self.log.open("a") as file:
            file.write(f"{text}\n")

    async def process(self, event: Event[str], ctx: Context[list[str]]) -> str:
        self.note(f"called {event.data}")
        ctx.state.append(event.data)
        try:
            if event.data.startswith("deadly"):
                await asyncio.sleep(LIVES)
                os.kill(os.getpid(), signal.SIGKILL)
            if event.data.startswith("long"):
                await asyncio.sleep(LIVES)
            while event.data.startswith("slow") and not self.go.exists():  # noqa: ASYNC110  a file, of another process
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.note(f"cancelled {event.data}")
            raise
        return event.data


class Stubborn(Model):
    """The same, and can't be cancelled."""

    def process(self, event: Event[str], ctx: Context[list[str]]) -> str:  # type: ignore[override]
        self.note(f"called {event.data}")
        ctx.state.append(event.data)
        while event.data.startswith("slow") and not self.go.exists():
            time.sleep(0.02)
        return event.data


class Batched(BatchNode[str, list[str], str]):
    """The same, many words at once: what is slow holds up all of them."""

    def __init__(self, go: Path, log: Path) -> None:
        self._model = Model(go, log)

    async def process(self, events: Sequence[Event[str]], ctxs: Sequence[Context[list[str]]]) -> list[str]:
        return [await self._model.process(event, ctx) for event, ctx in zip(events, ctxs, strict=True)]


def _flow(name: str, unique: str, node: Callable[[Path, Path], Any], deadline: timedelta) -> Asking:
    go, log = (Path("/tmp") / f"headrace-asking-{unique}.{what}" for what in ("go", "log"))
    workflow = Workflow(f"{name}-{unique}", epoch_deadline=deadline)
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    said = workflow.sink(KafkaSink(f"said-{unique}", str, name="said"))
    model = workflow.node(node(go, log), name="model")
    words.to(model)
    model.to(said)
    return Asking(workflow, words, model, said, go, log)


def asked(unique: str) -> Asking:
    """What takes longer than a second goes on by itself."""
    return _flow("asked", unique, Model, DEADLINE)


def awaited(unique: str) -> Asking:
    """What is slow is waited for, for an hour."""
    return _flow("awaited", unique, Model, timedelta(hours=1))


def batched(unique: str) -> Asking:
    """What is slow is waited for, and can't be cancelled, as it is in a batch with others."""
    return _flow("batched", unique, Batched, timedelta(hours=1))


def stubborn(unique: str) -> Asking:
    """Nothing can be cancelled."""
    return _flow("stubborn", unique, Stubborn, timedelta(hours=1))


__getattr__ = found_in(__name__)
