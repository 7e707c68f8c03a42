"""`make bench`: the engine beside the raw loop, in interleaved rounds on one machine. The last line is JSON.

The raw loop is what a careful person writes by hand, without any durability: `benchmarks/raw_loop.py`.
Both read the same filled topic; CPU is that of all processes but the broker. See `docs/explanation/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

from benchmarks.deployed import ROOT, DeployedResult, deploy, measure
from benchmarks.flow import ALERTS, TOPIC
from benchmarks.latency import by_kafka, by_request
from benchmarks.raw_loop import RawLoopResult
from benchmarks.topics import preload
from benchmarks.workload import EVENTS, PARTITIONS
from headrace.actors.local_ray import LocalRay
from headrace.embedded import ApacheKafka, Tansu, Valkey
from headrace.logs import configure_logs
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics

COLD = "bench-cold"
IDLE = "bench-idle"
RAW_ALERTS = "bench-raw-alerts"
COLD_KEYS = 1_000_000


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


def raw_loop(bootstrap: str, topic: str, events: int) -> RawLoopResult:
    """One run of the yardstick, in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.raw_loop", "--bootstrap", bootstrap, "--topic", topic,
        "--alerts", RAW_ALERTS, "--events", str(events),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=RawLoopResult)


class Rounds:
    """Interleaved runs over one topic; a system's figure is the median of its rounds."""

    def __init__(self, redis: Valkey, bootstrap: str, topic: str, events: int) -> None:
        self._redis = redis
        self._bootstrap = bootstrap
        self._topic = topic
        self._events = events
        self.raw: list[RawLoopResult] = []
        self.fused: list[DeployedResult] = []
        self.actors: list[DeployedResult] = []

    def run(self, count: int, *, actors: bool = True) -> None:
        """`count` rounds: raw loop, fused, actors."""
        for number in range(count):
            raw = raw_loop(self._bootstrap, self._topic, self._events)
            self.raw.append(raw)
            self.fused.append(self._measure(number, fused=True))
            line = f"round {number + 1}: raw loop {raw.events_per_second:,.0f}/s"
            line += f", fused {self.fused[-1].events_per_second:,.0f}/s"
            if actors:
                self.actors.append(self._measure(number, fused=False))
                line += f", actors {self.actors[-1].events_per_second:,.0f}/s"
            say(line)

    def _measure(self, number: int, *, fused: bool) -> DeployedResult:
        name = f"{'fused' if fused else 'actors'}-{number}"
        return measure(
            name, self._redis.url, self._bootstrap, fused=fused, events=self._events, topic=self._topic,
            servers=(self._redis.pid,),
        )  # fmt: skip

    def ratio(self, results: list[DeployedResult]) -> float:
        """Median of the rounds' ratios to the raw loop of the same round."""
        pairs = zip(results, self.raw, strict=True)
        return statistics.median(mine.events_per_second / raw.events_per_second for mine, raw in pairs)

    def cpu(self, results: list[DeployedResult]) -> float:
        """Median CPU seconds per million events."""
        return statistics.median(row.cpu_seconds / row.events * 1e6 for row in results)

    def raw_cpu(self) -> float:
        """The same of the raw loop."""
        return statistics.median(row.cpu_seconds / row.events * 1e6 for row in self.raw)

    def rate(self, results: list[DeployedResult] | list[RawLoopResult]) -> int:
        """Median events a second."""
        return round(statistics.median(row.events_per_second for row in results))


def latency(redis: Valkey, bootstrap: str) -> dict[str, float]:
    """One idle event at a time through the three nodes, fused and as actors."""
    figures: dict[str, float] = {}
    for fused in (True, False):
        kind = "fused" if fused else "actors"
        name = f"latency-{kind}"
        cluster = deploy(name, redis.url, bootstrap, fused=fused, topic=IDLE)
        try:
            figures[f"latency_{kind}_p50_ms"] = round(asyncio.run(by_request(name, redis.url)), 2)
            figures[f"latency_{kind}_kafka_p50_ms"] = round(asyncio.run(by_kafka(name, redis.url, bootstrap, IDLE)), 2)
        finally:
            cluster.stop()
        say(f"{kind}: {figures[f'latency_{kind}_p50_ms']} ms (by Kafka {figures[f'latency_{kind}_kafka_p50_ms']} ms)")
    return figures


def bench(rounds: int, events: int, broker: ApacheKafka | Tansu, redis: Valkey) -> dict[str, object]:
    """All of it; returns the figures."""
    bootstrap = broker.bootstrap
    topics = {ALERTS: PARTITIONS, RAW_ALERTS: PARTITIONS, IDLE: PARTITIONS}
    asyncio.run(ensure_topics(KafkaConnection("", bootstrap), topics, configs={"retention.ms": "-1"}))
    for topic, keys in ((TOPIC, 1_000), (COLD, COLD_KEYS)):
        seconds = asyncio.run(preload(bootstrap, topic, events=events, keys=keys))
        say(f"{events:,} readings of {keys:,} sensors in {topic}, {seconds:.1f} s")
    hot = Rounds(redis, bootstrap, TOPIC, events)
    hot.run(rounds)
    cold = Rounds(redis, bootstrap, COLD, events)
    say(f"{COLD_KEYS:,} keys, mostly cold:")
    cold.run(1, actors=True)
    return {
        "events": events,
        "broker": broker.kind,
        "raw_events_per_second": hot.rate(hot.raw),
        "fused_events_per_second": hot.rate(hot.fused),
        "actors_events_per_second": hot.rate(hot.actors),
        "fused_ratio": round(hot.ratio(hot.fused), 3),
        "actors_ratio": round(hot.ratio(hot.actors), 3),
        "raw_cpu_s_per_million": round(hot.raw_cpu(), 2),
        "fused_cpu_s_per_million": round(hot.cpu(hot.fused), 2),
        "actors_cpu_s_per_million": round(hot.cpu(hot.actors), 2),
        "cold_keys_raw_events_per_second": cold.rate(cold.raw),
        "cold_keys_fused_events_per_second": cold.rate(cold.fused),
        "cold_keys_actors_events_per_second": cold.rate(cold.actors),
        **latency(redis, bootstrap),
    }


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--broker", choices=("apache", "tansu"))
    asked = parser.parse_args()
    configure_logs("warning")
    cache = ROOT / ".cache"
    missing = ApacheKafka.missing()
    kind = asked.broker or ("tansu" if missing else "apache")
    if missing and kind == "tansu":
        say(f"Without Apache Kafka ({missing}): on Tansu, whose figures are its own.")
    broker = ApacheKafka(cache=cache) if kind == "apache" else Tansu(cache=cache)
    began = time.monotonic()
    with Valkey() as redis, broker, LocalRay(cpus=4):
        figures = bench(asked.rounds, asked.events, broker, redis)
    figures["seconds"] = round(time.monotonic() - began)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
