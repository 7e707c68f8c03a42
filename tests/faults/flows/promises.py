"""A workflow in which a repeat comes out differently: what has left and then differs in the store shows.

Outputs and replies carry a random number, drawn when the event is processed.
"""

from __future__ import annotations

import secrets

import msgspec

from headrace import Context, Event, KafkaSink, KafkaSource, Node, RequestSource, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    number: int
    celsius: float


class Ask(msgspec.Struct, frozen=True):
    sensor: str


class Drawn(msgspec.Struct, frozen=True):
    sensor: str
    draw: str


class Tally(msgspec.Struct):
    count: int = 0


class Draw(Node[Reading, Tally, Drawn]):
    def process(self, event: Event[Reading], ctx: Context[Tally]) -> Drawn:
        ctx.state.count += 1
        return Drawn(event.data.sensor, secrets.token_hex(8))


class Answer(Node[Ask, Tally, None]):
    def process(self, event: Event[Ask], ctx: Context[Tally]) -> None:
        ctx.state.count += 1
        ctx.reply(secrets.token_hex(8))


workflow = Workflow("promises", partitions=4)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
asks = workflow.source(RequestSource(Ask, key="sensor", name="asks"))
draw = workflow.node(Draw(), name="draw")
answer = workflow.node(Answer(), name="answer")
alerts = workflow.sink(KafkaSink("ALERTS", Drawn, cluster="SINK"))

readings.to(draw)
draw.to(alerts)
asks.to(answer)
