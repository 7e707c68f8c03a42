"""The unkeyed variant of the demo: one run, fed by a channel, that a critical temperature ends."""

from __future__ import annotations

import msgspec

from headrace import Action, ChannelSource, Context, Event, Node, Terminate, Workflow

LOW, HIGH, CRITICAL = 10.0, 30.0, 40.0
"""Degrees Celsius."""


class Celsius(msgspec.Struct, frozen=True):
    """One measurement."""

    value: float


class Heat(Action):
    """What `classify` makes of it."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Seen(msgspec.Struct):
    """State of `classify` and of the handlers: what came, in order."""

    values: list[float] = []


class Classify(Node[Celsius, Seen, Heat]):
    """Chooses the route; critical wins."""

    def process(self, event: Event[Celsius], ctx: Context[Seen]) -> Heat:
        """Remember the measurement and judge it."""
        celsius = event.data.value
        ctx.state.values.append(celsius)
        if celsius >= CRITICAL:
            return Heat.CRITICAL
        if celsius >= HIGH:
            return Heat.HIGH
        return Heat.LOW if celsius <= LOW else Heat.NORMAL


def warn(event: Event[Celsius], ctx: Context[Seen]) -> None:
    """Remember what was out of range."""
    ctx.state.values.append(event.data.value)


def stop(event: Event[Celsius], ctx: Context) -> Terminate:
    """End the run: nothing behind this event is processed."""
    return Terminate(f"{event.data.value} degrees")


workflow = Workflow("temperature-channel", keyed=False)
measurements = ChannelSource(Celsius, capacity=10)
incoming = workflow.source(measurements)
classifying = workflow.node(Classify())
warning = workflow.node(warn)
stopping = workflow.node(stop)

incoming.to(classifying)
classifying.on(Heat.LOW, Heat.HIGH).to(warning)
classifying.on(Heat.NORMAL).to(None)
classifying.on(Heat.CRITICAL).to(stopping)
