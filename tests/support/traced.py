"""A small workflow on one partition in memory, with traces: what tests of them have in common."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace import Action, Context, Event, KafkaSink, KafkaSource, Workflow
from headrace.workflows.commit import Answer, Output
from headrace.workflows.instructions import Load
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.partition import PartitionCore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Headers, Records
from headrace.workflows.runner import UnitRunner
from headrace.workflows.saving import Save
from headrace.workflows.traced_run import Scope
from headrace.workflows.tracing import Sampling, Span, Trace, Tracer

NOW = 1_700_000_000_000
TRACE, SPAN = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("00f067aa0ba902b7")
SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-2] + b"00"


class Reading(msgspec.Struct, frozen=True):
    sensor: str
    celsius: float


class Alert(msgspec.Struct, frozen=True):
    sensor: str


class Heat(Action):
    HIGH = "high"
    NORMAL = "normal"


def classify(event: Event[Reading], ctx: Context) -> Heat:
    if event.data.celsius > 1000:
        raise ValueError("melted")
    return Heat.HIGH if event.data.celsius > 30 else Heat.NORMAL


def alert(event: Event[Reading], ctx: Context) -> list[Alert]:
    return [Alert(event.data.sensor)] * 2


def plan_of(*, fuse: bool = False, first: Any = classify) -> Plan:
    workflow = Workflow("heat")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    alerts, log = workflow.sink(KafkaSink("alerts", Alert)), workflow.sink(KafkaSink("log", Alert))
    classified, alarmed = workflow.node(first, name="classify"), workflow.node(alert)
    readings.to(classified)
    classified.on(Heat.HIGH).to(alarmed)
    classified.on(Heat.NORMAL).to(None)
    alarmed.to(alerts, log)
    return workflow.compile(fuse="all" if fuse else None)


def records(*rows: tuple[float, Headers], first: int = 0) -> Records:
    return Records(
        source=0, origin="readings/0", log="readings/0@id", topic="readings",
        offsets=list(range(first, first + len(rows))), times=[NOW] * len(rows), keys=[None] * len(rows),
        values=[msgspec.json.encode(Reading("s1", celsius)) for celsius, _ in rows], after=str(first + len(rows)),
        headers=[headers for _, headers in rows] if any(headers for _, headers in rows) else None,
    )  # fmt: skip


def sampled(value: bytes = SAMPLED, *more: tuple[str, bytes]) -> Headers:
    return (("traceparent", value), *more)


@dataclass
class World:
    """One partition on a store in memory."""

    plan: Plan
    sampling: Sampling = field(default_factory=Sampling)
    scope: Scope | None = None
    store: MemoryStore = field(default_factory=lambda: MemoryStore(history=50))
    traces: list[Trace] = field(default_factory=list)
    """Those of commits, in order."""
    calls: list[Any] = field(default_factory=list)
    answer: Answer | None = None
    """What the store says to commits, in place of its own answer."""

    def __post_init__(self) -> None:
        self.clock = itertools.count(1)
        self.acquire()

    def acquire(self) -> None:
        """A new owner."""
        head = self.store.acquire(0, term=1, placement=1, worker="w")
        tracer = Tracer("heat/life", self.sampling, lambda: next(self.clock), self.traces.extend)
        self.core = PartitionCore(self.plan, 0, 1, head, tracer=tracer)
        self.runners = {unit.index: UnitRunner(self.plan, unit.index, scope=self.scope) for unit in self.plan.units}

    def process(self, batch: Records) -> None:
        """Offer records, and do all that the core asks for."""
        self.core.offer([batch], NOW)
        while todo := self.core.instructions():
            for instruction in todo:
                if isinstance(instruction, Load):
                    self.core.loaded(instruction.keys, self.store.load(0, instruction.keys), NOW)
                elif isinstance(instruction, Save):
                    if self.answer is not None:
                        assert not self.core.committed(self.answer, NOW)
                        return
                    assert self.core.committed(self.store.commit(0, self.core.owner, instruction.commit), NOW)
                else:
                    self.calls.append(instruction.call)
                    runner = self.runners[instruction.call.unit]
                    if runner.is_async:
                        self.core.finished(asyncio.run(runner.run_async(instruction.call, instruction.data)), NOW)
                    else:
                        self.core.finished(runner.run(instruction.call, instruction.data), NOW)

    @property
    def outputs(self) -> list[Output]:
        """All that was committed."""
        return self.store.outputs(0)

    def header(self, output: Output, name: str = "traceparent") -> bytes:
        """The one header of that name."""
        [value] = [value for header, value in output.headers if header.lower() == name]
        return value


def named(trace: Trace, name: str) -> list[Span]:
    return [span for span in trace.spans if span.name == name]
