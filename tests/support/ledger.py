"""Readings for the workflow `ledger`, and what must come of them, computed offline from the log in Kafka."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from aiokafka import AIOKafkaProducer

from committed import committed_records
from headrace.actors.store import Store
from headrace.workflows.keyspace import partition_of

FLOWS: Final = Path(__file__).parents[1] / "faults" / "flows"
PARTITIONS: Final = 4
KEYS: Final = 60
_BURST: Final = 0.05


def write_flow(folder: Path, readings: str, alerts: str, *, name: str = "ledger", sink: str | None = None) -> Path:
    """A workflow's file with these topics, in a folder of the test's own; `sink`: the cluster of the alerts."""
    text = (FLOWS / f"{name}.py").read_text()
    for word, value in {"READINGS": readings, "ALERTS": alerts, "SINK": sink}.items():
        text = text.replace(f'"{word}"', repr(value))
    file = folder / f"flow_{readings.replace('-', '_')}.py"  # a module is imported once by each process
    file.write_text(text)
    return file


def record(number: int, draw: random.Random) -> tuple[str, bytes]:
    """The next reading: key and value. Now and then one that can't be decoded, or that a node refuses."""
    sensor = f"s{draw.randrange(KEYS)}"
    celsius = round(draw.gauss(25, 6), 2)
    if number % 499 == 498:
        celsius = -300.0
    value = json.dumps({"sensor": sensor, "number": number, "celsius": celsius}).encode()
    return sensor, value[:-3] if number % 997 == 996 else value


class Load:
    """Sends readings at a steady rate, from a thread of its own, until it is left.

    Args:
        bootstrap: The broker.
        topic: Where to, by Kafka's own partitioner.
        rate: Readings a second.
        scattered: By another partitioner: a key's readings lie in one topic partition, but not in its own.
    """

    def __init__(self, bootstrap: str, topic: str, rate: int = 2_000, *, scattered: bool = False) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._rate = rate
        self._scattered = scattered
        self._draw = random.Random(7)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0

    def __enter__(self) -> Load:
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more; returns when all is in the log; idempotent."""
        assert self._thread is not None
        self._stop.set()
        self._thread.join()

    def send(self, count: int) -> None:
        """Send so many at once, as fast as the broker takes them; returns when they are in the log."""
        asyncio.run(self._send(count))

    async def _send(self, count: int) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=5) as producer:
            for _ in range(count):
                await self._next(producer)

    async def _run(self) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=5) as producer:
            while not self._stop.is_set():
                for _ in range(int(self._rate * _BURST)):
                    await self._next(producer)
                await asyncio.sleep(_BURST)

    async def _next(self, producer: AIOKafkaProducer) -> None:
        key, value = record(self.sent, self._draw)
        self.sent += 1
        partition = crc32(key.encode()) % PARTITIONS if self._scattered else partition_of(key, PARTITIONS)
        await producer.send(self._topic, value, key=key.encode(), partition=partition)


@dataclass
class Ledger:
    """What a log comes to, one event after the other."""

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run key -> node -> state."""
    alerts: list[dict[str, Any]] = field(default_factory=list)
    dead: Counter[str] = field(default_factory=Counter)
    """Reasons of dead letters."""
    ends: dict[int, int] = field(default_factory=dict)
    """Topic partition -> offset after its last record."""

    def feed(self, partition: int, offset: int, value: bytes) -> None:
        """The next record of a partition."""
        self.ends[partition] = offset + 1
        try:
            reading = json.loads(value)
        except ValueError:
            self.dead["decode"] += 1
            return
        nodes = self.states.setdefault(reading["sensor"], {})
        celsius = reading["celsius"]
        while celsius is not None:
            celsius = self._classify(nodes, reading, celsius)

    def _classify(self, nodes: dict[str, Any], reading: dict[str, Any], celsius: float) -> float | None:
        if celsius < -273:
            self.dead["error"] += 1  # and nothing of it stays in the state
            return None
        tally = nodes.setdefault("classify", {"count": 0, "mean": 0.0, "last": [], "chain": 7})
        tally["count"] += 1
        tally["mean"] += (celsius - tally["mean"]) / tally["count"]
        tally["last"] = [*tally["last"][-4:], celsius]
        tally["chain"] = (tally["chain"] * 1_000_003 + reading["number"]) % 2_147_483_647
        if celsius > 35:
            damping = nodes.setdefault("damp", {"times": 0})
            damping["times"] += 1
            return round(celsius - 3 - damping["times"] % 4, 2)
        if celsius > 30:
            alarms = nodes.setdefault("alarm", {"ordinal": 0})
            alarms["ordinal"] += 1
            alert = {"sensor": reading["sensor"], "number": reading["number"], "celsius": celsius}
            self.alerts.append({**alert, "ordinal": alarms["ordinal"]})
        return None


async def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """All committed records of a topic, partition by partition, up to its end now."""
    return await committed_records(bootstrap, topic)


async def offline(bootstrap: str, topic: str) -> Ledger:
    """What the log of readings comes to."""
    ledger = Ledger()
    for row in await read_topic(bootstrap, topic):
        ledger.feed(row.partition, row.offset, row.value)
    return ledger


async def drained(store: Store, topic: str, ends: dict[int, int]) -> bool:
    """Is all of the log committed, has every output left, and is nothing on its way between partitions?"""
    for partition in (*range(PARTITIONS), *range(PARTITIONS)):  # twice: one seen empty may be sent to by the next
        position = (await store.head(partition)).positions.get(f"{topic}/{partition}", "0")
        if int(position.partition("@")[0]) != ends.get(partition, 0):
            return False
        if await store.internal(partition, limit=1) or await store.outbox(partition, 0, 1):
            return False
    return True


async def differences(store: Store, expected: Ledger) -> list[str]:
    """How states and dead letters in the store differ from the offline ones, as sentences."""
    wrong: list[str] = []
    dead: Counter[str] = Counter()
    states: dict[str, dict[str, Any]] = {}
    for partition in range(PARTITIONS):
        for key in await store.run_keys(partition):
            fields = await store.run(partition, key)
            nodes = [name for name in fields if name.startswith("node:")]
            states[key] = {name.removeprefix("node:"): json.loads(fields[name]) for name in nodes}
        dead.update([letter.reason for _, letter in await store.dead_letters(partition, limit=100_000)])
    wanted = {key: nodes for key, nodes in expected.states.items() if nodes}
    for key in sorted({*wanted, *states}):
        if states.get(key) and states[key] != wanted.get(key):
            wrong.append(f"{key}: {states[key]}, expected {wanted.get(key)}")
        elif not states.get(key) and wanted.get(key):
            wrong.append(f"{key}: nothing, expected {wanted[key]}")
    if dead != expected.dead:
        wrong.append(f"dead letters {dead}, expected {expected.dead}")
    return wrong


async def alert_differences(bootstrap: str, topic: str, expected: Ledger, *, repeats: bool = False) -> list[str]:
    """How the alerts in Kafka differ, for readers of committed records: each is there once.

    With `repeats` at least once: a repeat only with the same id and the same data.
    """
    rows = [(dict(row.headers)["headrace-id"].decode(), row.value) for row in await read_topic(bootstrap, topic)]
    by_id: dict[str, bytes] = {}
    wrong: list[str] = []
    for event, value in rows:
        if by_id.setdefault(event, value) != value:
            wrong.append(f"{event} came with {by_id[event]!r} and with {value!r}")
    values = by_id.values() if repeats else [value for _, value in rows]
    found = Counter(_text(json.loads(value)) for value in values)
    wanted = Counter(_text(alert) for alert in expected.alerts)
    wrong += [f"alert missing: {text}" for text in (wanted - found)]
    wrong += [f"alert too many: {text}" for text in (found - wanted)]
    return wrong


def _text(alert: dict[str, Any]) -> str:
    return json.dumps(alert, sort_keys=True)
