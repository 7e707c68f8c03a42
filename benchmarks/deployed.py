"""One run of a deployed workflow over a filled topic: throughput from first to last event, CPU of all processes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.flow import TOPIC
from benchmarks.workload import PARTITIONS
from headrace.actors.cluster import Cluster, deployment_of, start
from headrace.actors.loading import load_workflow
from headrace.actors.spec import ClusterStatus
from headrace.actors.store import Store
from headrace.actors.store_registry import Registry
from headrace.workflows.descriptor import descriptor_of

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class DeployedResult:
    """What one run measured."""

    events: int
    seconds: float
    """From the first pull to the last commit."""
    cpu_seconds: float
    """Workers and nodes between their first and last work, and the store and Ray's own processes meanwhile."""
    alerts: int

    @property
    def events_per_second(self) -> float:
        """Throughput."""
        return self.events / self.seconds


def deploy(
    name: str, redis_url: str, bootstrap: str, *, fused: bool, topic: str = TOPIC, every: bool = False,
    durability: str = "fast",
) -> Cluster:  # fmt: skip
    """Start the benchmark's workflow under `name`, reading `topic` from its start; `every`: all readings go out."""
    attr = f"{'all' if every else 'run'}_{name}__{topic}".replace("-", "_")
    ref, workflow = load_workflow(f"benchmarks.flow:{attr}", ROOT)
    plan = workflow.compile(fuse="all" if fused else None)
    deployment = deployment_of(
        plan,
        ref,
        redis_url,
        fuse=fused,
        kafka={"bootstrap_servers": bootstrap},
        partitions=PARTITIONS,
        durability=durability,
        start_over=True,  # the topic has been read by the run before
        spares=0,  # one takes two CPU seconds to start, once, beside a run of two seconds
    )

    async def publish() -> None:
        async with Registry(redis_url, connections=1) as registry:
            await registry.publish_workflow(descriptor_of(plan, PARTITIONS))

    asyncio.run(publish())
    return start(deployment)


def remove(name: str, redis_url: str) -> None:
    """Take the state of a run out of the store, so that the next one finds it as empty."""

    async def clear() -> None:
        async with Registry(redis_url, connections=1) as registry:
            await registry.remove_workflow(name)

    asyncio.run(clear())


def measure(
    name: str, redis_url: str, bootstrap: str, *, fused: bool, events: int, servers: tuple[int, ...] = (),
    within: float = 120.0, **options: Any,
) -> DeployedResult:  # fmt: skip
    """Deploy (`options` are those of `deploy`), let it read `events` events, stop.

    Raises:
        TimeoutError: It does not get there.
    """
    helpers = _helpers(servers)
    cluster = deploy(name, redis_url, bootstrap, fused=fused, **options)
    before = _cpu(helpers)
    try:
        status = _until_done(cluster, events, within)
        others = _cpu(helpers) - before
        check(name, redis_url, events)
    finally:
        cluster.stop()
        remove(name, redis_url)
    counters = [role.counters for role in status.roles if "worked_from" in role.counters]
    seconds = max(row["worked_until"] for row in counters) - min(row["worked_from"] for row in counters)
    worker = next(role.counters for role in status.roles if role.role == "worker/0")
    return DeployedResult(events, seconds, sum(row["worked_cpu"] for row in counters) + others, int(worker["outputs"]))


def check(name: str, redis_url: str, events: int) -> None:
    """Every event is counted once in the committed states; a fast wrong answer is no result."""

    async def counted() -> int:
        import msgspec  # noqa: PLC0415  only here

        total = 0
        async with Store(redis_url, name) as store:
            for partition in range(PARTITIONS):
                keys = await store.run_keys(partition)
                for fields in await store.load(partition, keys):
                    total += msgspec.json.decode(fields["node:count"])["count"]
        return total

    total = asyncio.run(counted())
    if total != events:
        raise AssertionError(f"{name}: {total} events are in the states, {events} were sent")


def _until_done(cluster: Cluster, events: int, within: float) -> ClusterStatus:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        status = cluster.status()
        if status is not None:
            worker = next(role.counters for role in status.roles if role.role == "worker/0")
            nodes = [role.counters for role in status.roles if role.role and role.role.startswith("node/")]
            done = worker.get("events", 0) >= events and not worker.get("outputs_waiting")
            if done and all(row.get("events") for row in nodes):
                return status
        time.sleep(0.25)
    raise TimeoutError(f"not done after {within:.0f} s: {status}")


def _helpers(servers: tuple[int, ...]) -> list[psutil.Process]:
    """The store, and Ray's control processes; those of workers and nodes say for themselves what they used."""
    ray = [
        process for process in psutil.Process().children(recursive=True) if process.name() in ("raylet", "gcs_server")
    ]
    return [*ray, *(psutil.Process(pid) for pid in servers)]


def _cpu(processes: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))
