"""A worker's decoders and encoders: opened until they are, on one thread, and waited for when they can't go on."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from headrace import Context, Decoder, Encoder, Event, KafkaRecord, KafkaSink, KafkaSource, Node, Unavailable, Workflow
from headrace.actors.activity import Activity
from headrace.actors.clock import StoreClock
from headrace.actors.formats import Formats
from headrace.actors.node_calls import NodeCalls
from headrace.actors.partition_driver import PartitionDriver
from headrace.actors.relay import Relay
from headrace.actors.shared import Shared
from headrace.actors.sizing import Sizing
from headrace.actors.worker_metrics import WorkerMetrics
from headrace.workflows.instructions import Limits
from headrace.workflows.memory_store import MemoryStore
from headrace.workflows.plan import Plan
from headrace.workflows.records import Records
from headrace.workflows.runner import UnitRunner
from waiting import until_async


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


class Store:
    """The store in memory, awaitable."""

    def __init__(self) -> None:
        self.memory = MemoryStore()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*args: Any, **options: Any) -> Any:
            return getattr(self.memory, name)(*args, **options)

        return ask


class Log:
    """A feed with three records."""

    def __init__(self) -> None:
        self.position = 0
        self.pulls = 0

    async def assign(self, partition: int, positions: dict[str, str]) -> None:
        self.position = int(positions.get("in/0", "0"))

    async def revoke(self, partition: int) -> None:
        pass

    def committed(self, partition: int, positions: dict[str, str]) -> None:
        pass

    def has_requests(self, partition: int) -> bool:
        return False

    def pull_control(self, partition: int) -> list[Records]:
        return []

    def pull(self, partition: int, limit: int) -> list[Records]:
        offsets = list(range(self.position, min(3, self.position + 1)))  # one by one: order shows
        if not offsets:
            return []
        self.pulls += 1
        self.position += 1
        return [Records(0, "in/0", offsets, [0], [None], [b"%d" % offsets[0]], str(self.position))]


class Switched(Decoder[Reading]):
    """Reads only while it is on."""

    on = False

    def decode(self, record: KafkaRecord) -> Reading:
        if not self.on:
            raise Unavailable("switched off")
        return Reading("s1" if record.value != b"1" else "")


class Count(Node[Reading, list[str], None]):
    def process(self, event: Event[Reading], ctx: Context[list[str]]) -> None:
        ctx.state.append(event.id)


@asynccontextmanager
async def driving(decoder: Switched, store: Store, log: Log) -> AsyncIterator[PartitionDriver]:
    """A worker's driver that owns the only partition of a workflow with this decoder."""

    def ignore(*_: Any) -> None:
        pass

    workflow = Workflow("switched", partitions=1, fuse="all")
    workflow.source(KafkaSource("in", Reading, key="sensor", decoder=decoder)).to(workflow.node(Count()))
    plan = workflow.compile()
    formats = Formats(plan, ignore)
    await formats.open()
    relay = Relay([], lambda output: 0, ignore, ignore)
    await relay.open()
    shared: Any = Shared(
        plan=plan, partitions=1, worker="w", store=store, feed=log,  # type: ignore[arg-type]
        nodes=NodeCalls([], ignore, ignore, ignore), relay=relay, runners={0: UnitRunner(plan, 0)}, formats=formats,
        clock=StoreClock(), sizing=Sizing(), activity=Activity(), metrics=WorkerMetrics(plan), limits=Limits(),
        on_problem=ignore, on_lost=ignore,
    )  # fmt: skip
    driver = PartitionDriver(0, shared)
    assert await driver.acquire(1, 1)
    yield driver
    await driver.drop()
    await relay.close()
    await formats.close()


async def test_a_partition_waits_for_its_decoder_and_goes_on_in_order() -> None:
    decoder, store, log = Switched(), Store(), Log()

    async with driving(decoder, store, log) as driver:
        await until_async(lambda: log.pulls == 1, "something was pulled")
        assert driver.events == 0
        decoder.on = True
        await until_async(lambda: driver.events == 3, "all is processed")

    assert msgspec.json.decode(store.memory.run(0, "s1")["node:count"]) == ["in/0/0", "in/0/2"]
    assert [(letter.id, letter.reason, letter.data) for letter in store.memory.dead_letters(0)] == [
        ("in/0/1", "key", b"1")
    ]
    assert log.pulls == 3


async def test_a_partition_is_given_back_while_its_decoder_waits_and_the_next_owner_reads_the_same() -> None:
    decoder, store, log = Switched(), Store(), Log()

    async with driving(decoder, store, log) as driver:
        await until_async(lambda: log.pulls == 1, "something was pulled")
        await driver.release()
        assert driver.state == "released"
    assert store.memory.head(0).positions == {}

    decoder.on = True
    async with driving(decoder, store, log) as driver:
        await until_async(lambda: driver.events == 3, "all is processed")

    assert msgspec.json.decode(store.memory.run(0, "s1")["node:count"]) == ["in/0/0", "in/0/2"]
