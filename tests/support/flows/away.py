"""A node that does not open while a file is there; what goes elsewhere goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flows import found_in
from headrace import Context, Event, KafkaSink, KafkaSource, Node, Workflow
from headrace.workflows.handles import NodeHandle, SinkHandle, SourceHandle


@dataclass
class Away:
    """The workflow with its parts."""

    workflow: Workflow
    words: SourceHandle[str]
    book: NodeHandle[str, str]
    noted: SinkHandle[str]
    broken: Path
    """While it is there, `book` does not open."""


class Book(Node[str, list[str], str]):
    """Keeps the words of a key."""

    def __init__(self, broken: Path) -> None:
        self.broken = broken

    async def open(self) -> None:
        if self.broken.exists():
            raise OSError("not now")

    def process(self, event: Event[str], ctx: Context[list[str]]) -> str:
        ctx.state.append(event.data)
        return event.data


def note(event: Event[str], ctx: Context) -> str:
    """Passes it on."""
    return event.data


def flow(unique: str) -> Away:
    """Each word goes to `note`, which passes it on, and to `book`."""
    broken = Path("/tmp") / f"headrace-broken-{unique}"
    workflow = Workflow(f"away-{unique}", epoch_deadline=timedelta(seconds=1))
    words = workflow.source(KafkaSource(f"words-{unique}", str, name="words"))
    noted = workflow.sink(KafkaSink(f"noted-{unique}", str, name="noted"))
    book = workflow.node(Book(broken), name="book")
    noting = workflow.node(note, name="note")
    words.to(noting, book)
    noting.to(noted)
    book.to(None)
    return Away(workflow, words, book, noted, broken)


__getattr__ = found_in(__name__)
