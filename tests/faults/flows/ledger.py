"""A workflow whose results tell every event that was lost, applied twice, or taken out of turn.

Each state depends on the order of all events before it, an event may go round a loop of two nodes, and some
fail on purpose. `ledger.py` of the tests' support computes the same offline; the topics' names are put in there.
"""

from __future__ import annotations

import msgspec

from headrace import Action, Context, Event, KafkaSink, KafkaSource, Node, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    number: int
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    sensor: str
    number: int
    ordinal: int
    celsius: float


class Tally(msgspec.Struct):
    count: int = 0
    mean: float = 0.0
    last: list[float] = []
    chain: int = 7


class Damping(msgspec.Struct):
    times: int = 0


class Alarms(msgspec.Struct):
    ordinal: int = 0


class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"
    EXTREME = "extreme"


class Classify(Node[Reading, Tally, Heat]):
    def process(self, event: Event[Reading], ctx: Context[Tally]) -> Heat:
        reading, tally = event.data, ctx.state
        tally.count += 1
        tally.mean += (reading.celsius - tally.mean) / tally.count
        tally.last = [*tally.last[-4:], reading.celsius]
        tally.chain = (tally.chain * 1_000_003 + reading.number) % 2_147_483_647
        if reading.celsius < -273:
            raise ValueError("colder than possible")
        if reading.celsius > 35:
            return Heat.EXTREME
        return Heat.HIGH if reading.celsius > 30 else Heat.NORMAL


class Damp(Node[Reading, Damping, Reading]):
    def process(self, event: Event[Reading], ctx: Context[Damping]) -> Reading:
        ctx.state.times += 1
        reading = event.data
        return Reading(reading.sensor, reading.number, round(reading.celsius - 3 - ctx.state.times % 4, 2))


class Raise(Node[Reading, Alarms, Alert]):
    def process(self, event: Event[Reading], ctx: Context[Alarms]) -> Alert:
        ctx.state.ordinal += 1
        reading = event.data
        return Alert(reading.sensor, reading.number, ctx.state.ordinal, reading.celsius)


workflow = Workflow("ledger", partitions=4)
readings = workflow.source(KafkaSource("READINGS", Reading, key="sensor"))
classify = workflow.node(Classify(), name="classify")
damp = workflow.node(Damp(), name="damp")
alarm = workflow.node(Raise(), name="alarm")
alerts = workflow.sink(KafkaSink("ALERTS", Alert, cluster="SINK"))

readings.to(classify)
classify.on(Heat.NORMAL).to(None)
classify.on(Heat.HIGH).to(alarm)
classify.on(Heat.EXTREME).to(damp)
damp.to(classify)
alarm.to(alerts)
