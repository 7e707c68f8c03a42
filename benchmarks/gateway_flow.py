"""What the gateway is measured with: three steps and a reply, a run that waits for a message, a topic, a stream.

Imported by name in every process: `workflow`, `backlogged`, which also reads a topic named as it is, and `talking`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import msgspec

from headrace import Action, Context, Event, KafkaSource, MessageSource, Node, RequestSource, Workflow

PARTITIONS = 4
TOPIC = "backlogged"
STREAM = "ticks"
PAUSE = 0.02
"""Seconds between two values of the stream."""


class Ask(msgspec.Struct, frozen=True):
    """What callers send, and the topic's records."""

    key: str
    number: int
    wait: bool = False
    """The run is to stand still until a message comes."""
    silent: bool = False
    """Nobody waits for a reply."""


class Go(msgspec.Struct, frozen=True):
    """The message that a run waits for."""

    number: int


class Next(Action):
    """Where an event goes from the second step."""

    ON = "on"
    WAIT = "wait"


class Total(msgspec.Struct):
    """What has been asked of a run."""

    asked: int = 0
    numbers: int = 0


def first(event: Event[Ask], ctx: Context) -> Ask:
    """One step."""
    return msgspec.structs.replace(event.data, number=event.data.number + 1)


class Count(Node[Ask, Total, Next]):
    """The step with a state."""

    def process(self, event: Event[Ask], ctx: Context[Total]) -> Next:
        """Count."""
        ctx.state.asked += 1
        ctx.state.numbers += event.data.number
        return Next.WAIT if event.data.wait else Next.ON


def last(event: Event[Ask], ctx: Context) -> None:
    """Answer."""
    if not event.data.silent:
        ctx.reply({"number": event.data.number})


def resumed(event: Event[Go], ctx: Context) -> None:
    """Answer the message."""
    ctx.reply({"number": event.data.number})


def _make(name: str, topic: str | None = None) -> Workflow:
    made = Workflow(name, partitions=PARTITIONS)
    asks = made.source(RequestSource(Ask))
    goes = made.source(MessageSource("go", Go))
    standing = made.wait(goes)
    begun, counted, answered = made.node(first), made.node(Count(), name="count"), made.node(last)
    asks.to(begun)
    if topic is not None:
        made.source(KafkaSource(topic, Ask, key="key")).to(begun)
    begun.to(counted)
    counted.on(Next.ON).to(answered)
    counted.on(Next.WAIT).to(standing)
    standing.to(made.node(resumed))
    return made


class Talk(msgspec.Struct, frozen=True):
    """Asks for a stream."""

    key: str
    values: int


async def talk(event: Event[Talk], ctx: Context) -> None:
    """Write the time, again and again: every process here has the same monotonic clock."""
    async with ctx.stream(STREAM) as ticks:
        for _ in range(event.data.values):
            await asyncio.sleep(PAUSE)
            await ticks.write(time.monotonic())
    ctx.reply(event.data.values)


def _talking() -> Workflow:
    made = Workflow("gateway-bench-talking", partitions=PARTITIONS)
    made.source(RequestSource(Talk, key="key")).to(made.node(talk, timeout=timedelta(minutes=5)))
    return made


workflow = _make("gateway-bench")
backlogged = _make("gateway-bench-backlogged", TOPIC)
talking = _talking()
"""Its node is not like the others: one that waits would make all of them wait."""
