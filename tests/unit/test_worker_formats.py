"""A worker's decoders and encoders: opened until they are, on one thread, and waited for when they can't go on."""

from __future__ import annotations

import threading

import msgspec

from headrace import Context, Decoder, Encoder, Event, KafkaRecord, KafkaSink, KafkaSource, Unavailable, Workflow
from headrace.actors.formats import Formats
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records


class Reading(msgspec.Struct, frozen=True):
    sensor: str


class Troubled(Decoder[Reading], Encoder[Reading]):
    """Opens and reads at the second attempt; says on which thread."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}
        self.threads: set[str] = set()

    async def open(self) -> None:
        self._second("open")

    async def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        raise OSError("closed already")

    def decode(self, record: KafkaRecord) -> Reading:
        self._second("decode")
        return Reading(record.value.decode())

    def encode(self, data: Reading) -> bytes:
        return data.sensor.encode()

    def _second(self, what: str) -> None:
        self.threads.add(threading.current_thread().name)
        self.attempts[what] = self.attempts.get(what, 0) + 1
        if self.attempts[what] == 1:
            raise Unavailable(f"{what} later")


def plan_of(decoder: Troubled, encoder: Troubled) -> Plan:
    def same(event: Event[Reading], ctx: Context) -> Reading:
        return event.data

    workflow = Workflow("troubled")
    readings = workflow.source(KafkaSource("in", Reading, key="sensor", decoder=decoder))
    plain = workflow.source(KafkaSource("plain", Reading, key="sensor"))
    node = workflow.node(same)
    readings.to(node)
    plain.to(node)
    node.to(workflow.sink(KafkaSink("out", Reading, encoder=encoder)))
    return workflow.compile()


def records(source: int) -> Records:
    return Records(source, "in/0", [0], [0], [None], [b"s1"], "1")


async def test_what_can_not_go_on_is_named_and_waited_for() -> None:
    decoder, encoder = Troubled(), Troubled()
    told: list[tuple[str, str]] = []
    formats = Formats(plan_of(decoder, encoder), lambda word, sentence: told.append((word, sentence)))

    await formats.open()
    assert formats.may_wait([records(1), records(0)])
    assert not formats.may_wait([records(1)])
    unpacked = await formats.unpack_waiting([records(1), records(0)])
    await formats.close()

    assert [row.data for row in unpacked] == [None, [Reading("s1")]]
    assert told == [
        ("decoder", "The decoder of in does not open: Unavailable: open later"),
        ("decoder", ""),
        ("encoder", "The encoder of out does not open: Unavailable: open later"),
        ("encoder", ""),
        ("decoder", "The decoder of in can't go on: decode later"),
        ("decoder", ""),
    ]
    assert decoder.threads == encoder.threads == {"headrace-user"}
