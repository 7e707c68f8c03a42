"""A `KafkaReader` as a worker would drive it: assigned, pulled until enough has come, its problems remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaProducer

from headrace.sources.kafka import KafkaSource
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_reader import KafkaReader
from headrace.workflows.plan import SourcePlan
from headrace.workflows.records import Records
from waiting import DEADLINE, until_async


def plain(bootstrap: str, **options: str) -> KafkaConnection:
    """A cluster that asks for nothing."""
    return KafkaConnection("", bootstrap, options)


def plan_of(topic: str, index: int = 0, **more: Any) -> SourcePlan:
    source: KafkaSource[Any] = KafkaSource(topic, dict, name="readings", **more)
    return SourcePlan(index=index, name=source.name, source=source, type=0, key=None, targets=(0,))


@dataclass
class Reading:
    """Use as `async with Reading(...) as reading`; `take` pulls."""

    connection: KafkaConnection | str
    """The cluster, or the address of one that asks for nothing."""
    topic: str
    partitions: int = 1
    source: SourcePlan | None = None
    group: str | None = None
    start_over: bool = False
    problems: dict[str, str] = field(default_factory=dict)
    """Those that stand, by word."""
    ready: set[int] = field(default_factory=set)
    records: list[Records] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    """As a worker would have committed them."""

    def __post_init__(self) -> None:
        self._arrival = asyncio.Event()
        cluster = self.connection if isinstance(self.connection, KafkaConnection) else plain(self.connection)
        self.reader = KafkaReader(
            [self.source or plan_of(self.topic)],
            connection=cluster,
            partitions=self.partitions,
            on_ready=self._on_ready,
            on_problem=self._on_problem,
            group=self.group,
            start_over=self.start_over,
        )

    async def __aenter__(self) -> Reading:
        await self.reader.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reader.close()

    async def assign(self, positions: Mapping[str, str] | None = None, *, only: int | None = None) -> None:
        for partition in range(self.partitions) if only is None else [only]:
            await self.reader.assign(partition, positions or {})

    async def take(self, count: int, limit: int = 500) -> list[Records]:
        """Pull until `count` records have come in all, and nothing that is ready is left."""
        taken: list[Records] = []
        async with asyncio.timeout(DEADLINE):
            while True:
                while self.ready:
                    partition = self.ready.pop()
                    while pulled := self.reader.pull(partition, limit):
                        assert sum(map(len, pulled)) <= limit
                        taken += pulled
                        self.positions.update({records.origin: records.after for records in pulled})
                if sum(map(len, taken)) >= count:
                    self.records += taken
                    return taken
                self._arrival.clear()
                await self._arrival.wait()

    async def problem(self, word: str) -> str:
        """The sentence of this problem, once it stands."""
        return str(await until_async(lambda: self.problems.get(word), f"the problem {word} is told", within=10))

    async def solved(self, word: str) -> None:
        await until_async(lambda: not self.problems.get(word), f"the problem {word} is taken back")

    def _on_ready(self, partition: int) -> None:
        self.ready.add(partition)
        self._arrival.set()

    def _on_problem(self, word: str, sentence: str) -> None:
        self.problems[word] = sentence


def values(taken: list[Records]) -> list[bytes | None]:
    return [value for records in taken for value in records.values]


def offsets(taken: list[Records], origin: str) -> list[Any]:
    return [offset for records in taken if records.origin == origin for offset in records.offsets]


async def write(
    bootstrap: str, topic: str, payloads: Sequence[bytes], partition: int = 0, *, times: Sequence[datetime] = ()
) -> None:
    """Append these, with the timestamps given or the present one."""
    stamps = [int(time.timestamp() * 1000) for time in times] or [None] * len(payloads)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        sent = [
            await producer.send(topic, payload, partition=partition, timestamp_ms=stamp)
            for payload, stamp in zip(payloads, stamps, strict=True)
        ]
        await asyncio.gather(*sent)


def numbered(first: int, after: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, after)]
