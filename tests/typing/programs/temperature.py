# A complete program, for type checkers.
from datetime import timedelta

import msgspec

from headrace import Action, Context, Event, KafkaSink, KafkaSource, Node, Timeout, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    sensor: str
    text: str


class SensorStats(msgspec.Struct):
    count: int = 0
    mean: float = 0.0


class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Classify(Node[Reading, SensorStats, Heat]):
    def __init__(self, high: float, critical: float) -> None:
        self.high, self.critical = high, critical

    def process(self, event: Event[Reading], ctx: Context[SensorStats]) -> Heat:
        stats, celsius = ctx.state, event.data.celsius
        stats.count += 1
        stats.mean += (celsius - stats.mean) / stats.count
        if celsius >= self.critical:
            return Heat.CRITICAL
        return Heat.HIGH if celsius >= self.high else Heat.NORMAL


def to_alert(event: Event[Reading], ctx: Context) -> Alert:
    return Alert(event.data.sensor, f"{event.data.celsius} C")


def silent(event: Event[Timeout], ctx: Context) -> Alert:
    return Alert(event.key, f"silent for {event.data.after}")


workflow = Workflow("temperature")
readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
classify = workflow.node(Classify(high=30, critical=40), replicas=2)
alert, quiet = workflow.node(to_alert), workflow.node(silent)
alerts = workflow.sink(KafkaSink("alerts", Alert))
readings.to(classify)
classify.on(Heat.HIGH, Heat.CRITICAL).to(alert)
classify.on(Heat.NORMAL).to(None)
workflow.timeout(idle=timedelta(minutes=5)).to(quiet)
alert.to(alerts)
quiet.to(alerts)
