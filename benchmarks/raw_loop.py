"""The yardstick: what a plain loop over aiokafka does with the same work, without any durability.

One process: `getmany(max_records=5000)`, 4 MiB a partition and fetch, no auto-commit, a group commit after
every batch; msgspec decodes JSON into a Struct; a dict of [count, sum] by sensor; for each hot reading one
`producer.send` of JSON, linger 5 ms; flush at the end. Prints one line of JSON.

    python -m benchmarks.raw_loop --bootstrap 127.0.0.1:9092 --topic readings --alerts alerts --events 300000
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.workload import EVENTS, HOT_CELSIUS, Alert, Reading


class RawLoopResult(msgspec.Struct, frozen=True):
    """What one run of the loop measured."""

    events: int
    seconds: float
    """From the first batch in hand to the last commit and flush."""
    cpu_seconds: float
    """CPU time of the process in that time."""
    cpu_seconds_total: float
    """CPU time of the process since it began."""
    alerts: int
    sensors: int

    @property
    def events_per_second(self) -> float:
        """Throughput."""
        return self.events / self.seconds


async def run(bootstrap: str, topic: str, alerts_topic: str, events: int) -> RawLoopResult:
    """Read `events` readings from the start of `topic`."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"raw-loop-{uuid.uuid4()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    decode = msgspec.json.Decoder(Reading).decode
    encode = msgspec.json.encode
    totals: dict[str, list[float]] = {}
    seen = alerts = 0
    began = cpu_began = 0.0
    await producer.start()
    await consumer.start()
    try:
        while seen < events:
            batches = await consumer.getmany(timeout_ms=1000, max_records=5000)
            if not seen:
                began, cpu_began = time.perf_counter(), time.process_time()
            for records in batches.values():
                for record in records:
                    reading = decode(record.value)
                    total = totals.get(reading.sensor)
                    if total is None:
                        totals[reading.sensor] = [1, reading.celsius]
                    else:
                        total[0] += 1
                        total[1] += reading.celsius
                    if reading.celsius > HOT_CELSIUS:
                        alerts += 1
                        await producer.send(alerts_topic, encode(Alert(reading.sensor, reading.celsius)))
                seen += len(records)
            if batches:
                await consumer.commit()
        await producer.flush()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    finally:
        await consumer.stop()
        await producer.stop()
    return RawLoopResult(seen, seconds, cpu_seconds, time.process_time(), alerts, len(totals))


def main() -> None:
    """Run it from the command line and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="readings")
    parser.add_argument("--alerts", default="alerts")
    parser.add_argument("--events", type=int, default=EVENTS)
    asked = parser.parse_args()
    result = asyncio.run(run(asked.bootstrap, asked.topic, asked.alerts, asked.events))
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
