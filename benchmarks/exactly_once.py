"""`make bench-sinks`: exactly-once sinks beside quixstreams in exactly-once mode, interleaved. The last line is JSON.

4 % of the readings go out, then all of them. Both read the same filled topic and send to an output topic in
transactions; after each run the committed outputs are counted. The first round of each is not: the broker's JVM
still compiles what it runs, on the processors that whoever is measured would use. See
`docs/explanation/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # started by path: the project's folder is not on Python's yet
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.deployed import ROOT, measure
from benchmarks.flow import ALERTS, TOPIC
from benchmarks.topics import preload
from benchmarks.workload import HOT_CELSIUS, PARTITIONS, readings
from headrace.actors.local_ray import LocalRay
from headrace.embedded import ApacheKafka, Valkey
from headrace.logs import configure_logs
from headrace.sources.kafka_connection import KafkaConnection
from headrace.sources.kafka_metadata import ensure_topics

QUIXSTREAMS = "3.28.1"
PEER_ALERTS = "bench-peer-alerts"
COLDEST = -273.15
EVENTS = 500_000


class Run(msgspec.Struct, frozen=True):
    """One run of either system."""

    events: int
    seconds: float
    """From the first reading in hand to the last output committed."""
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Readings a second."""
        return self.events / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds per million readings."""
        return self.cpu_seconds / self.events * 1e6


@dataclass
class Pairs:
    """Runs of both systems, in the order of the rounds."""

    ours: list[Run] = field(default_factory=list)
    peer: list[Run] = field(default_factory=list)

    def figures(self, share: str) -> dict[str, float]:
        """Medians, and the median of the rounds' ratios."""
        ratios = [mine.rate / theirs.rate for mine, theirs in zip(self.ours, self.peer, strict=True)]
        return {
            f"headrace_{share}_events_per_second": round(statistics.median(run.rate for run in self.ours)),
            f"quixstreams_{share}_events_per_second": round(statistics.median(run.rate for run in self.peer)),
            f"ratio_{share}": round(statistics.median(ratios), 2),
            f"headrace_{share}_cpu_s_per_million": round(statistics.median(run.cpu for run in self.ours), 2),
            f"quixstreams_{share}_cpu_s_per_million": round(statistics.median(run.cpu for run in self.peer), 2),
        }


def say(text: str) -> None:
    """Progress, on the error stream: the result is on the output."""
    print(text, file=sys.stderr, flush=True)


def peer_python() -> Path:
    """Python of an environment that has quixstreams; made once."""
    folder = ROOT / ".cache" / f"quixstreams-{QUIXSTREAMS}"
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        say(f"Installing quixstreams {QUIXSTREAMS} into {folder}, once.")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"quixstreams=={QUIXSTREAMS}"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        done.touch()
    return python


def run_peer(python: Path, bootstrap: str, events: int, above: float) -> Run:
    """One run of quixstreams, in a process of its own."""
    command = [
        str(python), str(ROOT / "benchmarks" / "peer_quixstreams.py"), "--bootstrap", bootstrap, "--topic", TOPIC,
        "--alerts", PEER_ALERTS, "--events", str(events), "--above", str(above),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Run)


def run_ours(name: str, redis: Valkey, bootstrap: str, events: int, *, every: bool, durability: str) -> Run:
    """One run of Headrace: one worker with all nodes in it, and the store."""
    result = measure(
        name, redis.url, bootstrap, fused=True, events=events, servers=(redis.pid,), every=every, durability=durability
    )
    return Run(result.events, result.seconds, result.cpu_seconds)


async def ends(bootstrap: str, topic: str) -> dict[TopicPartition, int]:
    """Where the topic's committed records end now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    async with consumer:
        return dict(await consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)]))


async def count(bootstrap: str, since: dict[TopicPartition, int]) -> int:
    """How many committed records have come since then; waits until no transaction is open."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as everything:
        until = await everything.end_offsets(list(since))
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    async with consumer:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        found = 0
        while any([await consumer.position(place) < end for place, end in until.items()]):
            found += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
        return found


def bench(rounds: int, events: int, durability: str, bootstrap: str, redis: Valkey) -> dict[str, object]:
    """All of it; returns the figures."""
    python = peer_python()
    topics = {ALERTS: PARTITIONS, PEER_ALERTS: PARTITIONS}
    asyncio.run(ensure_topics(KafkaConnection("", bootstrap), topics, configs={"retention.ms": "-1"}))
    asyncio.run(preload(bootstrap, TOPIC, events=events))
    figures: dict[str, object] = {"events": events, "durability": durability, "quixstreams": QUIXSTREAMS}
    for share, above in (("4_percent", HOT_CELSIUS), ("100_percent", COLDEST)):
        expected = sum(reading.celsius > above for _, reading in readings(events))
        pairs = Pairs()
        for number in range(rounds + 1):
            began = {topic: asyncio.run(ends(bootstrap, topic)) for topic in topics}
            theirs = run_peer(python, bootstrap, events, above)
            name = f"sinks-{share.replace('_', '-')}-{number}"
            every = above == COLDEST
            mine = run_ours(name, redis, bootstrap, events, every=every, durability=durability)
            counted = {topic: asyncio.run(count(bootstrap, since)) for topic, since in began.items()}
            if set(counted.values()) != {expected}:
                raise AssertionError(f"{counted} outputs were committed, {expected} expected")
            if number:
                pairs.ours.append(mine)
                pairs.peer.append(theirs)
            say(f"{share} round {number or 'of warming up'}: {mine.rate:,.0f}/s, quixstreams {theirs.rate:,.0f}/s")
        figures |= pairs.figures(share)
    return figures


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--durability", choices=("fast", "fsync"), default="fsync")
    asked = parser.parse_args()
    configure_logs("warning")
    began = time.monotonic()
    store = Valkey(appendfsync="always" if asked.durability == "fsync" else "everysec")
    with store as redis, ApacheKafka(cache=ROOT / ".cache") as broker, LocalRay(cpus=4):
        figures = bench(asked.rounds, asked.events, asked.durability, broker.bootstrap, redis)
    figures["seconds"] = round(time.monotonic() - began)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
