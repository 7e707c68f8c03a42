"""Runs that do as they are told over HTTP: they wait, set values, write streams, and fail."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from headrace import (
    Action,
    Complete,
    Context,
    Event,
    Linear,
    MessageSource,
    Node,
    RequestSource,
    Retry,
    Timeout,
    Timer,
    Workflow,
)

PATIENCE = timedelta(seconds=1)
LONG_PATIENCE = timedelta(seconds=12)
"""Longer than it takes to replace a worker."""


class Order(msgspec.Struct, frozen=True):
    """What a run is told to do."""

    do: str
    words: list[Any] = []
    name: str = "s"
    pause: float = 0.0
    until: str = ""
    """A file: what fails does so once it is there."""


class Note(msgspec.Struct, frozen=True):
    """A message. What its schema can't say: no number is below 0."""

    text: str = ""
    number: int = 0

    def __post_init__(self) -> None:
        """Look at it as it is decoded."""
        if self.number < 0:
            raise ValueError("the number is below 0")


class Session(msgspec.Struct):
    """What a run has seen."""

    notes: list[str] = []
    next: int = 0
    disorder: int = 0


class Do(Action):
    """Where an order goes."""

    READ = "read"
    LISTEN = "listen"
    HASTY = "hasty"
    PATIENT = "patient"
    BURST = "burst"
    WRITE = "write"


ROUTES = {action.value: action for action in Do}


class Begin(Node[Order, int, Do | Complete | None]):
    """Does what is done at once, and sends the rest on."""

    def process(self, event: Event[Order], ctx: Context[int, Session]) -> Do | Complete | None:
        """An order."""
        ctx.state = (ctx.state or 0) + 1
        match event.data.do:
            case "fail":
                raise ValueError("there is no such order")
            case "values":
                ctx.set_value("k1", {"x": 1})
                ctx.set_value("k2", None)
                return Complete("done")
            case "set":
                ctx.set_value(event.data.name, event.data.words)
                ctx.reply(event.data.words)
                return None
            case "later":
                ctx.set_timer("later", after=timedelta(seconds=1))
                return None
            case "end":
                return Complete({"orders": ctx.state})
            case "count":
                ctx.reply({"orders": ctx.state})
                return None
        if event.data.do in ("listen", "patient", "burst"):
            ctx.set_timer("remind", after=timedelta(minutes=10))
        return ROUTES[event.data.do]

    def on_timer(self, timer: Timer, ctx: Context[int, Session]) -> None:
        """Late, but there."""
        if timer.name == "later":
            ctx.set_value("k", "late")


def is_there(file: str) -> bool:
    """A test has made it."""
    return Path(file).exists()


class Write(Node[Order, None, None]):
    """Writes words into a stream, with pauses."""

    async def process(self, event: Event[Order], ctx: Context[None, Session]) -> None:
        """All of them, or up to what breaks it; what stands behind "close" is written once the stream is closed."""
        words = event.data.words
        end = words.index("close") if "close" in words else len(words)
        async with ctx.stream(event.data.name) as stream:
            for word in words[:end]:
                if word == "again" and ctx.attempt == 1:
                    while event.data.until and not is_there(event.data.until):  # noqa: ASYNC110  of another process
                        await asyncio.sleep(0.01)
                    raise OSError("not now")
                await stream.write(word)
                await asyncio.sleep(event.data.pause)
        for word in words[end + 1 :]:
            await stream.write(word)
        ctx.reply({"attempt": ctx.attempt})


class Keep(Node[Note, None, Note]):
    """Keeps what a message says, and goes on to the next wait."""

    def process(self, event: Event[Note], ctx: Context[None, Session]) -> Note:
        """A message."""
        ctx.run.state.notes.append(event.data.text)
        return event.data


def finish(event: Event[Note], ctx: Context[None, Session]) -> Complete:
    """The last message."""
    return Complete([*ctx.run.state.notes, event.data.text])


def expire(event: Event[Timeout], ctx: Context[None, Session]) -> Complete:
    """None came."""
    return Complete({"waited": event.data.after.total_seconds()})


class Count(Node[Note, None, Note | Complete]):
    """Counts messages, and those that come out of order."""

    def process(self, event: Event[Note], ctx: Context[None, Session]) -> Note | Complete:
        """The next one."""
        state = ctx.run.state
        state.disorder += event.data.number != state.next
        state.next += 1
        if event.data.text == "last":
            return Complete({"count": state.next, "disorder": state.disorder})
        return event.data


workflow = Workflow("cases", state=Session, partitions=2)
orders = workflow.source(RequestSource(Order))
of_a = workflow.source(MessageSource("a", Note))
of_t = workflow.source(MessageSource("t", Note))
of_burst = workflow.source(MessageSource("burst", Note))

begin = workflow.node(Begin(), name="begin")
write = workflow.node(Write(), name="write", retry=Retry(3, on=(OSError,), backoff=Linear(timedelta(milliseconds=50))))
orders.to(begin)
begin.on(Do.WRITE).to(write)

first, second, third = workflow.wait(of_t), workflow.wait(of_a, name="second"), workflow.wait(of_a, name="third")
begin.on(Do.READ).to(first)
first_kept, second_kept = workflow.node(Keep(), name="first_kept"), workflow.node(Keep(), name="second_kept")
first.to(first_kept)
first_kept.to(second)
second.to(second_kept)
second_kept.to(third)
third.to(workflow.node(finish))

listen = workflow.wait(of_a, name="listen")
begin.on(Do.LISTEN).to(listen)
listen.to(workflow.node(finish, name="heard"))

expired = workflow.node(expire)
for action, patience in ((Do.HASTY, PATIENCE), (Do.PATIENT, LONG_PATIENCE)):
    wait = workflow.wait(of_a, name=action.value, timeout=patience)
    begin.on(action).to(wait)
    wait.on(Timeout).to(expired)
    wait.to(workflow.node(finish, name=f"{action.value}_heard"))

burst = workflow.wait(of_burst, name="burst")
begin.on(Do.BURST).to(burst)
count = workflow.node(Count(), name="count")
burst.to(count)
count.to(burst)
