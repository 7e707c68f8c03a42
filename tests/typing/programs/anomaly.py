# A complete program, for type checkers.
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from headrace import Action, BatchNode, Context, Event, KafkaSink, KafkaSource, Node, Reject, Workflow


class Temperature(msgspec.Struct, frozen=True):
    machine: str
    celsius: float


class Vibration(msgspec.Struct, frozen=True):
    machine: str
    rms: float


class Features(msgspec.Struct, frozen=True):
    machine: str
    celsius: float
    rms: float


class Machine(msgspec.Struct):
    celsius: float | None = None
    rms: float | None = None


class Verdict(Action):
    NORMAL = "normal"
    ODD = "odd"


class Pair(Node[Temperature | Vibration, Machine, Features]):
    def process(self, event: Event[Temperature | Vibration], ctx: Context[Machine]) -> Features | None:
        match event.data:
            case Temperature(celsius=celsius):
                ctx.state.celsius = celsius
            case Vibration(rms=rms):
                ctx.state.rms = rms
        machine = ctx.state
        if machine.celsius is None or machine.rms is None:
            return None  # nothing goes on
        return Features(event.key, machine.celsius, machine.rms)


class Score(BatchNode[Features, None, Verdict]):
    async def open(self) -> None:
        self.limit = 3.0

    def process(self, events: Sequence[Event[Features]], ctxs: Sequence[Context]) -> list[Verdict | Reject]:
        return [Verdict.ODD if event.data.rms > self.limit else Verdict.NORMAL for event in events]


workflow = Workflow("anomaly")
temperatures = workflow.source(KafkaSource("temperatures", Temperature, key="machine"))
vibrations = workflow.source(KafkaSource("vibrations", Vibration, key="machine"))
pair = workflow.node(Pair())
score = workflow.node(Score(), gpus=0.5, replicas=2, batch_size=256, batch_delay=timedelta(milliseconds=5))
odd = workflow.sink(KafkaSink("odd", Features))
temperatures.to(pair)
vibrations.to(pair)
pair.to(score)
score.on(Verdict.ODD).to(odd)
score.on(Verdict.NORMAL).to(None)
